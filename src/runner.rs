//! Drives one scenario: obeys its lifecycle, records what is observed, always cleans up.

pub mod lifecycle;
