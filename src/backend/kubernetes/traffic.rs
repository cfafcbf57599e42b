//! Traffic on a cluster: generators run inside it, as Jobs of our image, and aim at a Service.
//!
//! A generator's standard output is followed in its log, its standard input is reached by attaching to it.

mod generator;
mod heard;
mod objects;

use exit137_workload::traffic::{Control, Endpoint};
use tokio::sync::mpsc;

use super::api_error;
use super::client::Client;
use super::manifest::Place;
use crate::backend::clients::Generators;
use crate::backend::{BackendError, clients};
use crate::evidence::{Fact, GeneratorRef, Source, SourceState};
use crate::recorder::Recorder;
use crate::scenario::{Scenario, Traffic};
use generator::Generator;
use heard::Heard;

/// All generators of a scenario.
#[derive(Debug)]
pub(super) struct Clients {
    recorder: Recorder,
    generators: Generators,
}

impl Clients {
    /// Makes the Services and the generators of a scenario and waits until all are ready.
    pub(super) async fn start(
        scenario: &Scenario,
        client: &Client,
        place: &Place,
        recorder: &Recorder,
        boot_id: &str,
    ) -> Result<Self, BackendError> {
        let mut generators = Generators::new(scenario, recorder);
        let mut begun = Vec::new();
        for (index, traffic) in scenario.traffic.iter().enumerate() {
            let endpoint = front(scenario, traffic, client, place).await?;
            for number in 0..traffic.generators {
                let name = objects::job_name(traffic, number);
                let jobs = client.dynamic(&objects::jobs(), Some(&place.namespace));
                let job = objects::job(traffic, number, place);
                let applied = super::objects::apply(&jobs, &name, &job).await;
                applied.map_err(|error| api_error(&format!("make the generator {name}"), &error))?;
                begun.push((index, number, name, endpoint.clone()));
            }
        }
        for (index, number, name, endpoint) in begun {
            let Some(traffic) = scenario.traffic.get(index) else { continue };
            let of = GeneratorRef { traffic: traffic.name.clone(), generator: number };
            let heard = Heard::new(recorder.clone(), of.clone(), boot_id);
            let generator = Generator::ready(client.namespaced(&place.namespace), &name, heard).await?;
            let (tell, told) = mpsc::unbounded_channel();
            // Who will be told is there: it has just said so.
            let _ = tell.send(Control::Endpoints(vec![endpoint]));
            let started = clients::started(scenario, traffic, of);
            generators.add(index, started, tell, generator.run(told));
        }
        Ok(Self { recorder: recorder.clone(), generators })
    }

    /// Has the traffic with this index begin at this nanosecond of `CLOCK_BOOTTIME`.
    pub(super) fn begin(&self, index: usize, zero_ns: u64) {
        self.generators.begin(index, zero_ns);
    }

    /// Ends all traffic and hears it to its end.
    pub(super) async fn stop(&self) {
        if self.generators.stop().await.is_none() {
            let reason = "a generator was not heard to its end".to_owned();
            let lost = SourceState::Lost { of: Source::Clients, reason };
            self.recorder.now(Source::Clients, Fact::Source(lost));
        }
    }
}

/// Puts a Service in front of the pods of a traffic; answers its address.
async fn front(
    scenario: &Scenario,
    traffic: &Traffic,
    client: &Client,
    place: &Place,
) -> Result<Endpoint, BackendError> {
    let name = objects::service_name(traffic);
    let doing = format!("make the Service {name} of traffic {}", traffic.name);
    let services = client.dynamic(&objects::services(), Some(&place.namespace));
    let service = objects::service(scenario, traffic, place);
    let made = super::objects::apply(&services, &name, &service).await;
    let made = made.map_err(|error| api_error(&doing, &error))?;
    let address = made.data["spec"]["clusterIP"].as_str().unwrap_or_default();
    let ip = address.parse::<std::net::IpAddr>();
    let ip = ip.map_err(|_| BackendError(format!("cannot {doing}: it was given no address")))?;
    let address = std::net::SocketAddr::new(ip, traffic.port).to_string();
    Ok(Endpoint { address, network: None })
}
