//! The command line: a behaviour and its settings, by the same names as in a scenario.

use exit137_workload::Workload;
use serde_json::{Map, Value};

/// What the command line asks for.
pub enum Parsed {
    /// To run this.
    Run(Box<Workload>),
    /// To be told how.
    Help,
}

/// What `--help` says.
pub const HELP: &str = "\
exit137-workload: takes memory in a stated way, under whatever limit it is run

Usage: exit137-workload BEHAVIOUR [--SETTING VALUE]...
       exit137-workload --spec JSON      (what a scenario has below `workload:`)

Behaviours and their settings (sizes 64Mi, rates 8Mi/s, times 250ms):
  hog          --size S [--rate R] | --stages 64Mi:2s,160Mi:0s [--repeat N]; [--cap S] [--then-exit CODE]
  leak         --rate R --cap S
  children     --size S [--count N] [--rate R] [--together] [--then survive|respawn|propagate]
               [--exit-after T --exit-code N]
  tmpfs        --path DIR --size S [--rate R]
  page-cache   --path DIR --size S [--passes N]
  ignore-term  [--size S]
  exit         --code N [--after T]
  serve        --port N --cap S [--hold-per-request S] [--hold-for T] [--leak-per-request S] [--unhealthy-after T]
  cpu          [--rlimit-cpu T]
  idle
For each: [--start-after T] [--on-term exit|ignore|start] [--term-code N]

It never takes more than its size or cap. It says what it holds in JSON lines on standard output.
";

/// Settings that lie beside the behaviour, not in it.
const SHARED: [&str; 3] = ["startAfter", "onTerm", "termCode"];

/// Reads the command line.
pub fn parse(args: impl Iterator<Item = String>) -> Result<Parsed, String> {
    let mut args = args.peekable();
    let value = match args.next().as_deref() {
        None | Some("--help" | "-h" | "help") => return Ok(Parsed::Help),
        Some("--spec") => {
            let spec = args.next().ok_or("--spec needs the JSON of a workload")?;
            serde_json::from_str(&spec).map_err(|error| format!("--spec is not JSON: {error}"))?
        }
        Some(behaviour) => by_flags(behaviour, args)?,
    };
    let workload: Box<Workload> = serde_json::from_value(value).map_err(|error| error.to_string())?;
    match workload.problems()[..] {
        [] => Ok(Parsed::Run(workload)),
        ref problems => Err(problems.join("; ")),
    }
}

fn by_flags(behaviour: &str, args: impl Iterator<Item = String>) -> Result<Value, String> {
    let mut args = args.peekable();
    let (mut whole, mut own) = (Map::new(), Map::new());
    while let Some(flag) = args.next() {
        let name = flag
            .strip_prefix("--")
            .ok_or_else(|| format!("{flag:?} is not a setting; settings begin with --"))?;
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, args.next_if(|next| !next.starts_with("--"))),
        };
        let value = value.map_or(Ok(Value::Bool(true)), |text| setting(name, &text))?;
        let name = camel_case(name);
        let map = if SHARED.contains(&name.as_str()) { &mut whole } else { &mut own };
        map.insert(name, value);
    }
    whole.insert(camel_case(behaviour), Value::Object(own));
    Ok(Value::Object(whole))
}

/// Whole numbers are numbers, `stages` is a list, anything else is text.
fn setting(name: &str, text: &str) -> Result<Value, String> {
    if name == "stages" {
        let stage = |stage: &str| {
            let (to, over) = stage
                .split_once(':')
                .ok_or_else(|| format!("{stage:?} is not SIZE:TIME, for example 64Mi:2s"))?;
            Ok(serde_json::json!({"to": to, "over": over}))
        };
        return text.split(',').map(stage).collect::<Result<_, String>>().map(Value::Array);
    }
    let counts = ["count", "repeat", "passes", "code", "port", "exit-code", "then-exit", "term-code"];
    match text.parse::<i64>() {
        Ok(number) if counts.contains(&name) => Ok(number.into()),
        Ok(_) | Err(_) => Ok(text.into()),
    }
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
            Parsed::Run(workload) => Ok(*workload),
            Parsed::Help => Err("help".into()),
        }
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
    fn mistakes_are_told_with_a_hint() {
        assert!(parsed("hog --size 64").unwrap_err().contains("say 64Mi"));
        assert!(parsed("hog --sise 64Mi").unwrap_err().contains("sise"));
        assert!(parsed("hog").unwrap_err().contains("size"));
        assert!(parsed("leak --rate 1Mi/s").unwrap_err().contains("cap"));
        assert!(parsed("boar").unwrap_err().contains("boar"));
    }
}
