//! What was seen: facts, each with its source and its moment, and the texts and files they are read from.

pub mod clients;
pub mod cluster;
pub mod fact;
pub mod kmsg;
pub mod kubernetes;
pub mod memcg;
pub mod moment;
pub mod observation;
pub mod record;
pub mod sample;
pub mod stream;
pub mod trace;

pub use clients::{GeneratorEnd, GeneratorRef, TrafficEnded, TrafficStarted, TrafficWindow};
pub use cluster::{
    ClusterFacts, Controller, Invented, NodeFacts, Noted, PIDS_OF_A_MACHINE, PodOver, PodSeen, PodSign,
    PodStopping, machine_of,
};
pub use fact::{
    ActionDone, CgroupMade, CgroupOwner, ContainerEnded, ContainerRef, ContainerStarted, Counters, End,
    Ending, Fact, HostFacts, KernelKilled, LimitChanged, OomDomain, OomSummary, ProbeFailed, ProbeKind,
    ProcessSeen, SignalSent, SourceState, StartFailed, StopReason, Stopping, VictimMarked,
};
pub use moment::{Moment, Order};
pub use observation::{Observation, Source};
pub use sample::{Breakdown, Sample};
