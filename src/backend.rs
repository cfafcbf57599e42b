//! Where pods run. A backend owns its sources: the runner wires no observer itself.

pub mod kubernetes;
pub mod local;

/// Why a backend cannot go on. The text says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

impl BackendError {
    /// An error in doing `what`.
    pub fn doing(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self(format!("cannot {what}: {error}"))
    }
}
