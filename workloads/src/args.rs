//! The command line: a behaviour and its settings, by the same names as in a scenario.

use exit137_workload::Workload;
use exit137_workload::traffic::Generator;
use serde_json::{Map, Value, json};

mod grammar;

use grammar::{BEHAVIOURS, Behaviour, SHARED, Setting};

/// What the command line asks for.
pub enum Parsed {
    /// To run this, and to end when the parent does, if one is named by its process ID.
    Run { workload: Box<Workload>, parent: Option<i32> },
    /// To send this, and to end when the parent does, if one is named.
    Traffic { generator: Box<Generator>, parent: Option<i32> },
    /// To be told how.
    Help,
}

/// What `--help` says.
pub fn help() -> String {
    use std::fmt::Write as _;

    let mut behaviours = String::new();
    for Behaviour { name, does, settings } in BEHAVIOURS {
        let _ = writeln!(behaviours, "  {name:<12} {does}");
        let mut line = String::new();
        for shown in settings.iter().map(Setting::shown) {
            if line.len() + shown.len() > 85 {
                let _ = writeln!(behaviours, "              {line}");
                line.clear();
            }
            line = line + " " + &shown;
        }
        if !line.is_empty() {
            let _ = writeln!(behaviours, "              {line}");
        }
    }
    let shared: Vec<_> = SHARED.iter().map(Setting::shown).collect();
    let shared = shared.join(" ");
    format!(
        "exit137-workload: takes memory in a stated way, under whatever limit it is run

Usage: exit137-workload BEHAVIOUR [--SETTING VALUE]...
       exit137-workload [--parent PID] --spec JSON
       exit137-workload [--parent PID] traffic --spec JSON

Behaviours and their settings:
{behaviours}For each:      {shared}

S is a size: 64Mi, 1.5Gi, 512Ki, 4096B, 10M. A rate is a size per second: 8Mi/s. T is a time: 250ms, 2s, 1m30s.
N is a whole number, CODE an exit code from 0 to 255, DIR a directory.
traffic sends a load over HTTP and says what became of it; it is told where and when in JSON lines on standard input.
--spec takes what a scenario has below `workload:`, as JSON; --parent ends it when that process, its parent, ends.

It never takes more than its size or cap, and says what it holds in JSON lines on standard output, whenever that has
changed by 1Mi: at a kill it held what it said last, give or take 1Mi (serve: for each request in flight).

Exit codes: its own where a setting says so (--code, --then-exit, --exit-code, --term-code); 143 after SIGTERM unless
--term-code says otherwise; 1 when something failed, 2 when this command line is wrong, both told on standard error.
"
    )
}

/// Reads the command line.
pub fn parse(args: impl Iterator<Item = String>) -> Result<Parsed, String> {
    let args: Vec<String> = args.collect();
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h")) {
        return Ok(Parsed::Help);
    }
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (parent, words) = match words[..] {
        ["--parent", pid, ref rest @ ..] => {
            let pid = pid.parse().map_err(|_| format!("--parent: {pid:?} is not a process ID"))?;
            (Some(pid), rest)
        }
        ref all => (None, all),
    };
    let value = match words {
        [] => return Err("say which behaviour, for example: leak --rate 8Mi/s --cap 64Mi".into()),
        ["--spec", spec] => {
            serde_json::from_str(spec).map_err(|error| format!("--spec is not JSON: {error}"))?
        }
        ["traffic", "--spec", spec] => {
            let generator = serde_json::from_str(spec).map_err(|error| format!("traffic --spec: {error}"))?;
            return Ok(Parsed::Traffic { generator, parent });
        }
        ["traffic", ..] => return Err("traffic takes --spec and the JSON of a generator".into()),
        ["--spec", ..] => return Err("--spec takes the JSON of a workload and nothing else".into()),
        [behaviour, flags @ ..] => by_flags(behaviour, flags)?,
    };
    let workload: Box<Workload> = serde_json::from_value(value).map_err(|error| error.to_string())?;
    match workload.problems()[..] {
        [] => Ok(Parsed::Run { workload, parent }),
        ref problems => Err(problems.join("; ")),
    }
}

fn by_flags(name: &str, words: &[&str]) -> Result<Value, String> {
    let behaviour = BEHAVIOURS.iter().find(|behaviour| behaviour.name == name).ok_or_else(|| {
        let names: Vec<_> = BEHAVIOURS.iter().map(|behaviour| behaviour.name).collect();
        format!("{name:?} is not a behaviour; say one of {}", names.join(", "))
    })?;
    let (mut whole, mut own) = (Map::new(), Map::new());
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        let flag = word
            .strip_prefix("--")
            .ok_or_else(|| format!("{word:?} is not a setting of {name}; settings begin with --"))?;
        let (flag, given) = flag.split_once('=').map_or((flag, None), |(flag, value)| (flag, Some(value)));
        let (setting, map) = if let Some(setting) = behaviour.settings.iter().find(|s| s.flag == flag) {
            (setting, &mut own)
        } else if let Some(setting) = SHARED.iter().find(|s| s.flag == flag) {
            (setting, &mut whole)
        } else {
            return Err(format!("{name} has no --{flag}; it has {}", behaviour.flags()));
        };
        let given = given.or_else(|| words.next_if(|next| !next.starts_with("--")));
        let value = setting.value.read(given).map_err(|problem| format!("--{flag}: {problem}"))?;
        if map.insert(camel_case(flag), value).is_some() {
            return Err(format!("--{flag} is given twice; keep one"));
        }
    }
    if let Some(missing) =
        behaviour.settings.iter().find(|s| s.needed && !own.contains_key(&camel_case(s.flag)))
    {
        return Err(format!("{name} needs {}", missing.shown()));
    }
    whole.insert(camel_case(name), json!(own));
    Ok(Value::Object(whole))
}

fn camel_case(kebab: &str) -> String {
    let mut parts = kebab.split('-');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Workload, String> {
        match parse(line.split(' ').map(str::to_owned))? {
            Parsed::Run { workload, .. } => Ok(*workload),
            Parsed::Traffic { .. } => Err("traffic".into()),
            Parsed::Help => Err("help".into()),
        }
    }

    /// The keys that serde knows in such an object, from the error about one that it does not know.
    fn known_keys(object: &Value) -> Vec<String> {
        let error = serde_json::from_value::<Workload>(object.clone()).unwrap_err().to_string();
        let mut keys: Vec<_> = error.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        keys.sort();
        keys
    }

    #[test]
    fn flags_say_the_same_as_a_spec() {
        let by_flags = parsed("page-cache --path /data --size 8Mi --passes 2 --on-term ignore").unwrap();
        let by_spec =
            parsed(r#"--spec {"pageCache":{"path":"/data","size":"8Mi","passes":2},"onTerm":"ignore"}"#);
        assert_eq!(by_flags, by_spec.unwrap());
        let stages = parsed("hog --stages 64Mi:2s,160Mi:0s --cap=100Mi").unwrap();
        assert_eq!(stages.hog.unwrap().stages.len(), 2);
    }

    #[test]
    fn every_setting_of_a_scenario_has_a_flag_and_every_flag_a_setting() {
        for behaviour in BEHAVIOURS {
            let mut flags: Vec<_> =
                behaviour.settings.iter().map(|setting| camel_case(setting.flag)).collect();
            flags.sort();
            assert_eq!(
                known_keys(&json!({camel_case(behaviour.name): {"?": 1}})),
                flags,
                "{}",
                behaviour.name
            );
        }
        let behaviours = BEHAVIOURS.iter().map(|behaviour| camel_case(behaviour.name));
        let mut whole: Vec<_> =
            behaviours.chain(SHARED.iter().map(|setting| camel_case(setting.flag))).collect();
        whole.sort();
        assert_eq!(known_keys(&json!({"?": 1})), whole);
    }

    #[test]
    fn each_flag_takes_the_value_that_its_setting_takes() {
        for behaviour in BEHAVIOURS {
            for setting in behaviour.settings.iter().chain(SHARED) {
                let needed = behaviour.settings.iter().filter(|s| s.needed && s.flag != setting.flag);
                let line = needed.chain([setting]).fold(behaviour.name.to_owned(), |line, setting| {
                    format!("{line} --{} {}", setting.flag, setting.value.example())
                });
                let words: Vec<&str> = line.split_whitespace().collect();
                let value = by_flags(words[0], &words[1..]).unwrap();
                assert!(serde_json::from_value::<Workload>(value).is_ok(), "{line}");
                assert!(help().contains(&setting.shown()), "{line}");
            }
        }
    }

    #[test]
    fn help_fits_a_terminal() {
        assert!(help().lines().all(|line| line.len() <= 120), "{}", help());
    }

    #[test]
    fn mistakes_are_told_with_the_flag_and_a_hint() {
        for (line, told) in [
            ("hog --size 64", "--size: \"64\" is not a size with a unit; say 64Mi"),
            ("hog --size", "--size: needs a value"),
            ("hog --sise 64Mi", "hog has no --sise; it has --size"),
            ("hog --size 1Mi --size 2Mi", "--size is given twice"),
            ("hog --size 1Mi --then-exit 300", "--then-exit: \"300\" is not an exit code"),
            ("hog --stages 64Mi", "--stages: \"64Mi\" is not SIZE:TIME"),
            ("hog --stages 64Mi:2", "--stages: \"2\" is not a time with a unit; say 2s"),
            ("hog 64Mi", "\"64Mi\" is not a setting of hog"),
            ("hog", "hog says no size"),
            ("leak --rate 1Mi/s", "leak needs --cap"),
            ("leak --rate 1Mi --cap 1Mi", "--rate: \"1Mi\" is not a rate"),
            ("children --size 1Mi --then run", "--then: \"run\" is not one of survive, respawn, propagate"),
            ("children --size 1Mi --together=yes", "--together: takes no value"),
            ("serve --port 70000 --cap 1Mi", "--port: \"70000\" is not a port"),
            ("idle --on-term die", "--on-term: \"die\" is not one of exit, ignore, start"),
            ("boar", "\"boar\" is not a behaviour; say one of hog, leak"),
            ("--spec {} more", "--spec takes"),
            ("--spec {", "--spec is not JSON"),
            ("--parent me --spec {}", "--parent"),
        ] {
            let problem = parsed(line).unwrap_err();
            assert!(problem.contains(told), "{line}: {problem}");
        }
        assert!(parse(std::iter::empty()).is_err_and(|problem| problem.contains("which behaviour")));
    }
}
