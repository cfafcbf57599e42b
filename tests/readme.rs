//! The README says what is so: its pictures are what the program prints of recorded runs, its tables are the program's own
//! words, its files exist and are valid. `EXIT137_UPDATE_README=1 cargo test --test readme` writes the pictures anew.
#![expect(clippy::unwrap_used, reason = "a test's helper may fail it")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use exit137::cause::Cause;
use exit137::exit_status::HELP;
use exit137::loader;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// A marked block: what the mark names, and the lines in the fence below it.
struct Block {
    kind: String,
    names: String,
    start: usize,
    end: usize,
    indent: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let lines: Vec<&str> = text.lines().collect();
    let mut blocks = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(mark) = line.strip_prefix("<!-- ").and_then(|mark| mark.strip_suffix(" -->")) else {
            continue;
        };
        let (kind, names) = mark.split_once(": ").unwrap();
        let fence = lines[index + 1];
        let indent = fence[..fence.find("```").unwrap()].to_owned();
        let close = format!("{indent}```");
        let length = lines[index + 2..].iter().position(|line| *line == close).unwrap();
        let (start, end) = (index + 2, index + 2 + length);
        blocks.push(Block { kind: kind.to_owned(), names: names.to_owned(), start, end, indent });
    }
    assert!(blocks.len() >= 3);
    blocks
}

/// What the block should hold.
fn content(block: &Block) -> String {
    match block.kind.as_str() {
        "file" => fs::read_to_string(root().join(&block.names)).unwrap(),
        "picture" => {
            let output = Command::new(env!("CARGO_BIN_EXE_exit137"))
                .args(["report", "--color", "never"])
                .arg(root().join(&block.names))
                .output()
                .unwrap();
            let command = match block.names.rsplit('/').next() {
                Some("checkout") => "exit137 run checkout.yaml",
                Some("spike") => "exit137 run spike.yaml",
                Some(_) | None => "exit137 run child-hidden grace-period limit-leak twin-kill-at-the-limit",
            };
            format!("$ {command}\n{}", String::from_utf8(output.stdout).unwrap())
        }
        other => unreachable!("{other}"),
    }
}

/// Long lines of evidence are cut, as a terminal would.
fn shown(content: &str, indent: &str) -> String {
    let mut shown = String::new();
    for line in content.trim_end().lines() {
        let line = if line.chars().count() > 180 {
            line.chars().take(179).collect::<String>() + "…"
        } else {
            line.to_owned()
        };
        writeln!(shown, "{}", format!("{indent}{line}").trim_end()).unwrap();
    }
    shown
}

#[test]
fn its_pictures_and_files_are_what_the_program_prints() {
    let text = readme();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for block in blocks(&text).iter().rev() {
        let wanted = shown(&content(block), &block.indent);
        lines.splice(block.start..block.end, wanted.lines().map(str::to_owned));
    }
    let wanted = lines.join("\n") + "\n";
    if std::env::var_os("EXIT137_UPDATE_README").is_some() {
        fs::write(root().join("README.md"), &wanted).unwrap();
    }
    assert!(readme() == wanted, "the README has drifted; see the top of this test for how to write it anew");
}

#[test]
fn its_examples_are_valid() {
    let files = fs::read_dir(root().join("docs/examples")).unwrap().map(|entry| entry.unwrap().path());
    let examples: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    let examples = loader::load(&examples).unwrap();
    let mut names: Vec<&str> = examples.iter().map(|loaded| loaded.scenario.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["checkout", "own-image", "own-manifest", "resize", "spike"]);
}

/// The rows of the table of what a context's user needs: resources with their group, and verbs.
fn permissions(text: &str) -> Vec<(String, String)> {
    let table = text.lines().skip_while(|line| !line.starts_with("| resource | where | verbs |")).skip(2);
    let rows = table.take_while(|line| line.starts_with("| "));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].replace('`', ""), cells[3].to_owned())
    })
    .collect()
}

#[test]
fn its_permissions_are_those_of_the_roles_that_it_ships() {
    let file = fs::read_to_string(root().join("docs/rbac.yaml")).unwrap();
    let mut granted = Vec::new();
    for role in serde_saphyr::from_multiple::<serde_json::Value>(&file).unwrap() {
        for rule in role["rules"].as_array().unwrap() {
            let list = |key: &str| {
                let words = rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
                words.collect::<Vec<_>>().join(", ")
            };
            let group = Some(list("apiGroups")).filter(|group| !group.is_empty());
            let group = group.map_or(String::new(), |group| format!(" ({group})"));
            granted.push((list("resources") + &group, list("verbs")));
        }
    }
    assert_eq!(permissions(&readme()), granted);
}

#[test]
fn it_names_every_cause_and_every_detail() {
    let text = readme();
    for cause in Cause::ALL {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{cause}` |")));
        let row = row.unwrap_or_else(|| unreachable!("no row for {cause}"));
        for detail in cause.details() {
            let told = row.contains(&format!("`{detail}`"));
            assert!(told, "{cause} does not name {detail}");
        }
    }
}

#[test]
fn its_exit_statuses_are_those_of_the_help() {
    let text = readme();
    for line in HELP.lines().filter(|line| line.starts_with("  ")) {
        let (status, meaning) = line.trim().split_once(' ').unwrap();
        let row = format!("| {status} | {} |", meaning.trim());
        assert!(text.contains(&row), "{row}");
    }
}

#[test]
fn every_command_and_target_that_it_names_exists() {
    let text = readme();
    let help = Command::new(env!("CARGO_BIN_EXE_exit137")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for command in ["run", "size", "sweep", "check", "report", "doctor", "schema", "show", "gc"] {
        assert!(text.contains(&format!("| `exit137 {command}")), "{command}");
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for (at, _) in text.match_indices("`make ") {
        let target = text[at + 6..].split(['`', ' ']).next().unwrap();
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
    }
}

#[test]
fn the_page_on_the_language_names_every_key_of_it() {
    let page = fs::read_to_string(root().join("docs/language.md")).unwrap();
    let schema = exit137::scenario::schema();
    let own = [
        "Workload",
        "Event",
        "Until",
        "Action",
        "Observe",
        "Expect",
        "Termination",
        "Node",
        "Kill",
        "SetLimit",
        "Traffic",
        "Request",
        "ExpectedTraffic",
        "Scenario",
    ];
    for name in own {
        let properties = schema["$defs"][name]["properties"].as_object().or(schema["properties"].as_object());
        for key in properties.unwrap().keys() {
            assert!(page.contains(key.as_str()), "docs/language.md does not name {key} of {name}");
        }
    }
}

#[test]
fn every_file_that_it_links_exists() {
    let text = readme();
    for (at, _) in text.match_indices("](") {
        let target = text[at + 2..].split(')').next().unwrap();
        let heading =
            target.strip_prefix('#').is_some_and(|anchor| text.lines().any(|line| anchored(line, anchor)));
        assert!(target.starts_with("http") || heading || root().join(target).exists(), "{target}");
    }
}

/// Whether a line is the heading that GitHub gives this anchor.
fn anchored(line: &str, anchor: &str) -> bool {
    let heading = line.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    line.starts_with('#') && kept.collect::<String>().replace(' ', "-") == anchor
}
