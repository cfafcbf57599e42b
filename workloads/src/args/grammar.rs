//! Which behaviours and settings the command line has: one table, from which it is both read and explained.

use exit137_workload::{Bytes, Rate, Span};
use serde_json::{Value as Json, json};

/// A behaviour on the command line.
pub struct Behaviour {
    /// As it is typed.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// Its own settings.
    pub settings: &'static [Setting],
}

/// A setting on the command line.
pub struct Setting {
    /// As it is typed, after `--`.
    pub flag: &'static str,
    /// What follows it.
    pub value: Value,
    /// Whether the behaviour cannot do without it.
    pub needed: bool,
}

/// What follows a flag.
#[derive(Clone, Copy)]
pub enum Value {
    Size,
    Rate,
    Time,
    Stages,
    Count,
    Port,
    Code,
    Directory,
    Choice(&'static [&'static str]),
    Nothing,
}

use Value::{Choice, Code, Count, Directory, Nothing, Port, Size, Stages, Time};

const fn needs(flag: &'static str, value: Value) -> Setting {
    Setting { flag, value, needed: true }
}

const fn may(flag: &'static str, value: Value) -> Setting {
    Setting { flag, value, needed: false }
}

/// Settings that lie beside the behaviour, not in it.
pub const SHARED: &[Setting] =
    &[may("start-after", Time), may("on-term", Choice(&["exit", "ignore", "start"])), may("term-code", Code)];

/// All of them.
pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "hog",
        does: "grows to a size, at a rate or at once, or from stage to stage, and holds it",
        settings: &[
            may("size", Size),
            may("rate", Value::Rate),
            may("stages", Stages),
            may("repeat", Count),
            may("cap", Size),
            may("then-exit", Code),
        ],
    },
    Behaviour {
        name: "leak",
        does: "grows at a rate and never gives back, up to a cap",
        settings: &[needs("rate", Value::Rate), needs("cap", Size)],
    },
    Behaviour {
        name: "children",
        does: "starts workers that grow to a size and exit, one after the other or together",
        settings: &[
            needs("size", Size),
            may("count", Count),
            may("rate", Value::Rate),
            may("together", Nothing),
            may("then", Choice(&["survive", "respawn", "propagate"])),
            may("exit-after", Time),
            may("exit-code", Code),
        ],
    },
    Behaviour {
        name: "tmpfs",
        does: "fills a tmpfs with a file that stays until the next run takes its place",
        settings: &[
            needs("path", Directory),
            needs("size", Size),
            may("rate", Value::Rate),
            may("then-exit", Code),
        ],
    },
    Behaviour {
        name: "page-cache",
        does: "writes a file on a disk and reads it over and over",
        settings: &[needs("path", Directory), needs("size", Size), may("passes", Count)],
    },
    Behaviour {
        name: "ignore-term",
        does: "holds a size and ignores SIGTERM",
        settings: &[may("size", Size)],
    },
    Behaviour {
        name: "exit",
        does: "exits with a code",
        settings: &[needs("code", Code), may("after", Time)],
    },
    Behaviour {
        name: "serve",
        does: "answers GET /healthz and /readyz over HTTP, and takes memory for any other request",
        settings: &[
            needs("port", Port),
            needs("cap", Size),
            may("connections", Count),
            may("hold-per-request", Size),
            may("hold-for", Time),
            may("leak-per-request", Size),
            may("cache-per-entry", Size),
            may("cache-key", Choice(&["path", "request"])),
            may("cache-max", Size),
            may("cache-evict", Choice(&["lru", "fifo"])),
            may("workers", Count),
            may("queue-max", Count),
            may("garbage-per-request", Size),
            may("collect-at", Size),
            may("collect-for", Time),
            may("heap-max", Size),
            may("unhealthy-after", Time),
            may("healthz-queued", Nothing),
            may("ready-after", Time),
        ],
    },
    Behaviour {
        name: "cpu",
        does: "burns CPU, until the kernel kills it at a hard RLIMIT_CPU of whole seconds if it has one",
        settings: &[may("rlimit-cpu", Time)],
    },
    Behaviour { name: "idle", does: "does nothing", settings: &[] },
];

impl Behaviour {
    /// Its own flags and the shared ones.
    pub fn flags(&self) -> String {
        let flags: Vec<_> = self.settings.iter().chain(SHARED).map(|s| format!("--{}", s.flag)).collect();
        flags.join(", ")
    }
}

impl Setting {
    /// As help shows it.
    pub fn shown(&self) -> String {
        let value = match self.value {
            Size => "S".to_owned(),
            Value::Rate => "S/s".to_owned(),
            Time => "T".to_owned(),
            Stages => "S:T,S:T...".to_owned(),
            Count | Port => "N".to_owned(),
            Code => "CODE".to_owned(),
            Directory => "DIR".to_owned(),
            Choice(words) => words.join("|"),
            Nothing => String::new(),
        };
        let whole = format!("--{} {value}", self.flag);
        if self.needed { whole } else { format!("[{}]", whole.trim_end()) }
    }
}

impl Value {
    /// What the settings of a scenario would say; or what is wrong, with a hint.
    pub fn read(self, given: Option<&str>) -> Result<Json, String> {
        let text = match (self, given) {
            (Nothing, None) => return Ok(Json::Bool(true)),
            (Nothing, Some(text)) => return Err(format!("takes no value, and was given {text:?}")),
            (_, None) => return Err(format!("needs a value, for example {}", self.example())),
            (_, Some(text)) => text,
        };
        let number = |what: &str, from: u32, to: u32| {
            let number = text.parse::<u32>().ok().filter(|number| (from..=to).contains(number));
            number.map(Json::from).ok_or_else(|| format!("{text:?} is not {what}; say {from} to {to}"))
        };
        match self {
            Size => text.parse::<Bytes>().map(|_| text.into()),
            Value::Rate => text.parse::<Rate>().map(|_| text.into()),
            Time => text.parse::<Span>().map(|_| text.into()),
            Stages => stages(text),
            Count => number("a count", 0, u32::MAX),
            Port => number("a port", 1, 65_535),
            Code => number("an exit code", 0, 255),
            Choice(words) if !words.contains(&text) => {
                Err(format!("{text:?} is not one of {}", words.join(", ")))
            }
            Directory | Choice(_) | Nothing => Ok(text.into()),
        }
    }

    /// One that is right.
    pub fn example(self) -> &'static str {
        match self {
            Size => "64Mi",
            Value::Rate => "8Mi/s",
            Time => "2s",
            Stages => "64Mi:2s,160Mi:0s",
            Count => "3",
            Port => "8080",
            Code => "137",
            Directory => "/tmp",
            Choice(words) => words.first().copied().unwrap_or_default(),
            Nothing => "",
        }
    }
}

/// `64Mi:2s,160Mi:0s`: to 64 MiB in two seconds, then to 160 MiB at once.
fn stages(text: &str) -> Result<Json, String> {
    let stage = |stage: &str| {
        let (to, over) = stage
            .split_once(':')
            .ok_or_else(|| format!("{stage:?} is not SIZE:TIME, for example 64Mi:2s"))?;
        to.parse::<Bytes>()?;
        over.parse::<Span>()?;
        Ok(json!({"to": to, "over": over}))
    };
    text.split(',').map(stage).collect::<Result<_, String>>().map(Json::Array)
}
