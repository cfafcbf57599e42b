//! Traffic and what is expected of it, as a file writes them: k6's words.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use exit137_workload::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer};

/// Requests to a container, in k6's words. Which of the keys belong together the executor says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::scenario) struct Traffic {
    /// Its name: lower-case letters, digits and hyphens.
    #[schemars(length(max = 50), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub(in crate::scenario) name: String,
    /// Where it goes: `pod/container`. Of a pod with replicas, to those that are ready, in turn.
    pub(in crate::scenario) to: String,
    /// The container's port.
    #[schemars(range(min = 1))]
    pub(in crate::scenario) port: u16,
    /// What it is like: an arrival rate is kept whether or not answers come, VUs send their next request when the last one is over.
    pub(in crate::scenario) executor: Executor,
    /// So long after all pods have started; without it at once.
    pub(in crate::scenario) start_time: Option<Span>,
    /// constant-arrival-rate: how many per `timeUnit`.
    pub(in crate::scenario) rate: Option<u64>,
    /// constant-…: how long.
    pub(in crate::scenario) duration: Option<Span>,
    /// What rates are per; without it a second.
    pub(in crate::scenario) time_unit: Option<Span>,
    /// ramping-arrival-rate: the rate before the first stage; without it 0.
    pub(in crate::scenario) start_rate: Option<u64>,
    /// ramping-vus: how many before the first stage; without it 1.
    #[serde(rename = "startVUs")]
    pub(in crate::scenario) start_vus: Option<u32>,
    /// constant-vus: how many.
    pub(in crate::scenario) vus: Option<u32>,
    /// ramping-…: from one target to the next, linearly.
    pub(in crate::scenario) stages: Option<Vec<TrafficStage>>,
    /// …-arrival-rate: the most in flight at once; what finds none idle is dropped, and counted.
    #[serde(rename = "maxVUs")]
    pub(in crate::scenario) max_vus: Option<u32>,
    /// What `maxVUs` is without it; nothing needs to be allocated before.
    #[serde(rename = "preAllocatedVUs")]
    pub(in crate::scenario) pre_allocated_vus: Option<u32>,
    /// So long requests in flight at its end may still take; without it 2s.
    pub(in crate::scenario) graceful_stop: Option<Span>,
    /// The version of HTTP; without it "1.1".
    pub(in crate::scenario) http: Option<Http>,
    /// HTTP/1.1: a new connection for each request, so that a Service chooses a pod for each; without it connections are kept.
    pub(in crate::scenario) no_connection_reuse: Option<bool>,
    /// How many generators share the load; without it 1.
    #[schemars(range(min = 1, max = 16))]
    pub(in crate::scenario) generators: Option<u32>,
    /// How often a request that failed is sent again; without it never.
    #[schemars(range(max = 100))]
    pub(in crate::scenario) retries: Option<u32>,
    /// So long after it failed; without it 100ms.
    pub(in crate::scenario) retry_after: Option<Span>,
    /// What is sent, in the proportion of the weights; without it `GET /`.
    #[schemars(length(min = 1, max = 100))]
    pub(in crate::scenario) requests: Option<Vec<Request>>,
}

/// What a load is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::scenario) enum Executor {
    ConstantArrivalRate,
    RampingArrivalRate,
    ConstantVus,
    RampingVus,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(in crate::scenario) enum Http {
    #[serde(rename = "1.1")]
    One,
    #[serde(rename = "2")]
    Two,
}

/// From the target before to this one, linearly; of no length it is a step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::scenario) struct TrafficStage {
    /// The rate or the number of VUs at its end.
    pub(in crate::scenario) target: u64,
    /// How long it takes.
    pub(in crate::scenario) duration: Span,
}

/// One of the requests that are sent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::scenario) struct Request {
    /// Without it GET.
    pub(in crate::scenario) method: Option<String>,
    /// With its query; without it `/`.
    pub(in crate::scenario) path: Option<String>,
    /// Header fields.
    #[serde(default)]
    pub(in crate::scenario) headers: BTreeMap<String, String>,
    /// Without it none.
    pub(in crate::scenario) body: Option<String>,
    /// How often beside the others; without it 1.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::scenario) weight: Option<u32>,
    /// From the send to the end of the answer; without it 5s.
    pub(in crate::scenario) timeout: Option<Span>,
}

/// What the clients of a traffic must have seen, as k6's thresholds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::scenario) struct ExpectedTraffic {
    /// Of which traffic.
    pub(in crate::scenario) of: String,
    /// When: `run`, `{stage: 0}`, or `{around: pod/container, before: 1s, after: 5s}` for the time around each of its ends.
    pub(in crate::scenario) over: Option<Over>,
    /// Requests that were not answered with 200 to 399: `rate<0.01`, `count<5`.
    #[serde(rename = "http_req_failed")]
    pub(in crate::scenario) http_req_failed: Option<Thresholds>,
    /// From the intended send to the end of the answer: `p(99)<200ms`, `avg`, `min`, `max`, `med`.
    #[serde(rename = "http_req_duration")]
    pub(in crate::scenario) http_req_duration: Option<Thresholds>,
    /// Requests: `rate>100` in a second, `count>=1000`.
    #[serde(rename = "http_reqs")]
    pub(in crate::scenario) http_reqs: Option<Thresholds>,
    /// What the load called for and nobody was idle to send: `count<1`, `rate<5` in a second.
    #[serde(rename = "dropped_iterations")]
    pub(in crate::scenario) dropped_iterations: Option<Thresholds>,
    /// Around an end: from it until answers were good again: `<5s`.
    pub(in crate::scenario) recovery: Option<Thresholds>,
}

/// One threshold or several.
#[derive(Debug)]
pub(in crate::scenario) struct Thresholds(pub(in crate::scenario) Vec<String>);

/// A part of a run.
#[derive(Debug)]
pub(in crate::scenario) enum Over {
    Run,
    Part(Part),
}

/// A part of a run by what it is or what it is around.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::scenario) struct Part {
    pub(in crate::scenario) stage: Option<u32>,
    pub(in crate::scenario) around: Option<String>,
    pub(in crate::scenario) before: Option<Span>,
    pub(in crate::scenario) after: Option<Span>,
}

/// A text or something else: an error of serde's untagged enums would name neither.
impl<'de> Deserialize<'de> for Over {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Over;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("run, a stage, or what it is around")
            }

            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Over, E> {
                Ok(Over::Run)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Over, A::Error> {
                Part::deserialize(value::MapAccessDeserializer::new(map)).map(Over::Part)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Thresholds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Thresholds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a threshold or several")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Thresholds, E> {
                Ok(Thresholds(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Thresholds, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(sequence)).map(Thresholds)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Over {
    fn schema_name() -> Cow<'static, str> {
        "Over".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let span = generator.subschema_for::<Span>();
        json_schema!({
            "type": ["string", "object"],
            "pattern": "^(run)$",
            "additionalProperties": false,
            "properties": {
                "stage": {"type": "integer", "format": "uint32", "minimum": 0},
                "around": {"type": "string"},
                "before": span,
                "after": span,
            },
        })
    }
}

impl JsonSchema for Thresholds {
    fn schema_name() -> Cow<'static, str> {
        "Thresholds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "array"], "items": {"type": "string"}, "minItems": 1})
    }
}
