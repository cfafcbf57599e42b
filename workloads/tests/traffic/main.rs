//! The traffic generator from outside: the real program, real sockets over the loopback, and servers that behave and others
//! that do not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, and so may what serves tests only")]

mod ends;
mod generator;
mod http2;
mod load;
mod outcomes;
mod servers;
mod targets;
