//! What a container finds around it on the local backend: each fact by what a real container saw.

mod lives;
mod probes;
mod resizes;
mod surroundings;
