//! What every backend makes of what a generator of traffic is told and says.

use std::time::Duration;

use exit137_workload::traffic::{Control, Line};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock;
use crate::evidence::{
    End, Fact, GeneratorEnd, GeneratorRef, Moment, Source, SourceState, TrafficEnded, TrafficStarted,
    TrafficWindow,
};
use crate::recorder::Recorder;
use crate::scenario::{Pod, Scenario, Traffic};

/// How long generators may take to be stopped and heard to their end, beside what requests in flight are granted.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The generators of a scenario that are ready, wherever they run.
#[derive(Debug)]
pub(super) struct Generators {
    recorder: Recorder,
    ready: Vec<Ready>,
    heard: Mutex<JoinSet<bool>>,
    graceful: Duration,
}

/// A generator that waits for its start.
#[derive(Debug)]
struct Ready {
    traffic: usize,
    started: TrafficStarted,
    tell: mpsc::UnboundedSender<Control>,
}

impl Generators {
    /// None is ready yet.
    pub(super) fn new(scenario: &Scenario, recorder: &Recorder) -> Self {
        if !scenario.traffic.is_empty() {
            recorder.now(Source::Clients, Fact::Source(SourceState::Present { of: Source::Clients }));
        }
        let graceful = scenario.traffic.iter().map(|traffic| traffic.graceful_stop_ms).max().unwrap_or(0);
        Self {
            recorder: recorder.clone(),
            ready: Vec::new(),
            heard: Mutex::default(),
            graceful: Duration::from_millis(graceful),
        }
    }

    /// One of the traffic with this index is ready: what it is told goes to `tell`, and `hear` hears it to its end and answers
    /// whether that was a good one.
    pub(super) fn add(
        &mut self,
        traffic: usize,
        started: TrafficStarted,
        tell: mpsc::UnboundedSender<Control>,
        hear: impl Future<Output = bool> + Send + 'static,
    ) {
        self.heard.get_mut().spawn(hear);
        self.ready.push(Ready { traffic, started, tell });
    }

    /// Has the traffic with this index begin at this nanosecond of `CLOCK_BOOTTIME`.
    pub(super) fn begin(&self, index: usize, zero_ns: u64) {
        let (boot, unix) = (clock::boot_ns(), clock::unix_ns());
        let start = unix.saturating_add(zero_ns).saturating_sub(boot);
        for ready in self.ready.iter().filter(|ready| ready.traffic == index) {
            let started = TrafficStarted { zero_ns, ..ready.started.clone() };
            self.recorder.now(Source::Clients, Fact::TrafficStarted(started));
            // One that is gone has been told of by who hears it.
            let _ = ready.tell.send(Control::StartAt(start));
        }
    }

    /// Ends all traffic and hears it to its end; answers whether all ends were good, and nothing where not all came in time.
    pub(super) async fn stop(&self) -> Option<bool> {
        if self.ready.is_empty() {
            return Some(true);
        }
        for ready in &self.ready {
            let _ = ready.tell.send(Control::Stop);
        }
        let done = self.heard(self.graceful + PATIENCE).await;
        if done == Some(true) {
            self.recorder.now(Source::Clients, Fact::Source(SourceState::Complete { of: Source::Clients }));
        }
        done
    }

    /// Hears to their end those that have not been yet; answers as [`Self::stop`] does.
    pub(super) async fn heard(&self, within: Duration) -> Option<bool> {
        let mut heard = self.heard.lock().await;
        let all = async {
            let mut done = true;
            while let Some(one) = heard.join_next().await {
                done &= one.unwrap_or(false);
            }
            done
        };
        timeout(within, all).await.ok()
    }
}

/// The names of the pods that a traffic goes to at the beginning.
pub(super) fn pods_of(scenario: &Scenario, traffic: &Traffic) -> Vec<String> {
    let whole = scenario.pods.iter().find(|pod| pod.name == traffic.to.pod);
    whole.map_or_else(|| vec![traffic.to.pod.clone()], Pod::replica_names)
}

/// The fact that a generator was told its load's zero, which is yet to come.
pub(super) fn started(scenario: &Scenario, traffic: &Traffic, of: GeneratorRef) -> TrafficStarted {
    let controller = scenario.pods.iter().find(|pod| pod.name == traffic.to.pod && pod.kind.is_controller());
    TrafficStarted {
        of,
        generators: traffic.generators,
        pods: pods_of(scenario, traffic),
        controller: controller.map(|pod| pod.name.clone()),
        container: traffic.to.container.clone(),
        port: traffic.port,
        zero_ns: 0,
    }
}

/// Records what a generator says, its moments in the record's time already; answers whether that was its last word.
pub(super) fn record(recorder: &Recorder, of: &GeneratorRef, line: Line) -> bool {
    match line {
        Line::Ready(_) => false,
        Line::Window(window) => {
            let at = Moment::between(window.from_ns, window.to_ns);
            let fact = TrafficWindow { of: of.clone(), window };
            recorder.record(Source::Clients, at, None, Fact::TrafficWindow(fact));
            false
        }
        Line::Done(done) => {
            let fact = TrafficEnded { of: of.clone(), end: GeneratorEnd::Done(done) };
            recorder.now(Source::Clients, Fact::TrafficEnded(fact));
            true
        }
    }
}

/// Records that a generator is gone and had not said that it was done.
pub(super) fn died(recorder: &Recorder, of: &GeneratorRef, end: Option<End>, why: String) {
    let GeneratorRef { traffic, generator } = of;
    let reason = format!("generator {generator} of traffic {traffic} ended before it was done");
    let fact = TrafficEnded { of: of.clone(), end: GeneratorEnd::Died { end, why } };
    recorder.now(Source::Clients, Fact::TrafficEnded(fact));
    let lost = SourceState::Lost { of: Source::Clients, reason };
    recorder.now(Source::Clients, Fact::Source(lost));
}
