//! Traffic: the load of a generator as pure data and a pure function of time, and the lines that a generator says.
//!
//! The words are k6's: arrival rate, virtual users (VUs), stages, dropped iterations. An open load (`…-arrival-rate`) sends
//! on schedule whether or not answers come; a closed one (`…-vus`) sends when the answer before has come.
//!
//! Units: rates are iterations per `timeUnit`; times in lines are nanoseconds of `CLOCK_BOOTTIME`, latencies microseconds
//! from the intended send.

mod histogram;
mod line;
mod load;
mod mix;
mod outcome;
mod shape;
mod window;

pub use line::{
    Clock, Control, Done, DoneWhy, Endpoint, Failure, Histogram, Line, Outcome, Outcomes, Window,
};
pub use load::{Generator, HttpVersion, Load, LoadStage, Request, Share};
pub use mix::Mix;
