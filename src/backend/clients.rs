//! What every backend makes of what a generator of traffic is told and says.

use exit137_workload::traffic::Line;

use crate::evidence::{
    End, Fact, GeneratorEnd, GeneratorRef, Moment, Source, SourceState, TrafficEnded, TrafficStarted,
    TrafficWindow,
};
use crate::recorder::Recorder;
use crate::scenario::{Pod, Scenario, Traffic};

/// The names of the pods that a traffic goes to at the beginning.
pub(super) fn pods_of(scenario: &Scenario, traffic: &Traffic) -> Vec<String> {
    let whole = scenario.pods.iter().find(|pod| pod.name == traffic.to.pod);
    whole.map_or_else(|| vec![traffic.to.pod.clone()], Pod::replica_names)
}

/// The fact that a generator was told its load's zero.
pub(super) fn started(
    scenario: &Scenario,
    traffic: &Traffic,
    of: GeneratorRef,
    zero_ns: u64,
) -> TrafficStarted {
    let controller = scenario.pods.iter().find(|pod| pod.name == traffic.to.pod && pod.kind.is_controller());
    TrafficStarted {
        of,
        generators: traffic.generators,
        pods: pods_of(scenario, traffic),
        controller: controller.map(|pod| pod.name.clone()),
        container: traffic.to.container.clone(),
        port: traffic.port,
        zero_ns,
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
