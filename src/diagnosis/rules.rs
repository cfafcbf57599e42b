//! The rules, by what they look at. Each is a pure function of a case and knows nothing of the others.

pub(super) mod child;
pub(super) mod exit;
pub(super) mod oom;
pub(super) mod sigkill;
pub(super) mod stop;
pub(super) mod synthetic;
