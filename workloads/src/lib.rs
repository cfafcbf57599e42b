//! w
/// Placeholder until the workloads branch is merged.
#[derive(Clone, Debug, PartialEq)]
pub enum Behaviour {
    /// idle
    Idle,
}
