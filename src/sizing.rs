//! The smallest limit that survives and the largest load that is carried: what to try next, when enough is known, and what it
//! says. Nothing here runs anything.

pub mod amount;
pub mod digest;
pub mod grid;
pub mod report;
pub mod search;
pub mod sweep;
pub mod table;
pub mod tally;
pub mod text;
mod thrashing;

pub use amount::{Amount, Range};
pub use search::{Answer, Find, Held, Search, Step};
