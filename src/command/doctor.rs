//! stub
/// x
pub fn doctor(_: &crate::cli::Doctor) -> crate::exit_status::ExitStatus { crate::exit_status::ExitStatus::Passed }
