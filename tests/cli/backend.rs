//! What a container finds around it on the local backend.
