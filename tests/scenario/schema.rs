//! The committed schemas and scenarios against the program.

use std::path::{Path, PathBuf};

use exit137::{loader, report, scenario};
use serde_json::Value;

#[expect(clippy::unwrap_used, reason = "a test's helper may fail it")]
fn committed(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_committed_schema_of_scenarios_is_the_one_that_the_program_checks_by() {
    let hint = "regenerate it: exit137 schema scenario > schema/scenario.json";
    assert!(committed("scenario.json") == scenario::schema(), "{hint}");
}

#[test]
fn the_committed_schema_of_reports_is_the_one_that_the_program_writes_by() {
    let hint = "regenerate it: exit137 schema report > schema/report.json";
    assert!(committed("report.json") == report::model::schema(), "{hint}");
}

#[test]
fn the_committed_schemas_of_sizings_and_sweeps_are_those_that_the_program_writes_by() {
    let hint =
        "regenerate it: exit137 schema size > schema/size.json; exit137 schema sweep > schema/sweep.json";
    assert!(committed("size.json") == exit137::sizing::report::schema(), "{hint}");
    assert!(committed("sweep.json") == exit137::sizing::sweep::schema(), "{hint}");
}

#[test]
fn every_shipped_scenario_loads_and_names_its_schema_and_its_file() {
    let shipped = loader::load(&[]).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(!shipped.is_empty());
    for loaded in &shipped {
        let first = loaded.text.lines().next().unwrap();
        assert_eq!(
            first,
            "# yaml-language-server: $schema=../schema/scenario.json",
            "{}",
            loaded.path.display()
        );
        assert_eq!(loaded.path, PathBuf::from(format!("scenarios/{}.yaml", loaded.scenario.name)));
        assert!(loaded.scenario.description.is_some(), "{} says what it shows", loaded.path.display());
        assert_eq!(loaded.scenario.hash.len(), 64);
    }
    assert!(shipped.is_sorted_by_key(|loaded| loaded.path.clone()));
}

#[test]
fn the_folder_of_scenarios_and_the_shipped_ones_are_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let read = loader::load(&[folder]).unwrap();
    let hashes = |loaded: &[loader::Loaded]| -> Vec<String> {
        loaded.iter().map(|loaded| loaded.scenario.hash.clone()).collect()
    };
    assert_eq!(hashes(&read), hashes(&loader::load(&[]).unwrap()));
}

#[test]
fn what_cannot_be_loaded_is_a_problem_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let good =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/limit-fast.yaml")).unwrap();
    for (paths, said) in [
        (vec![folder.path().join("missing.yaml")], "cannot be found"),
        (vec![folder.path().join("empty")], "holds no scenario"),
        (vec![file("long.yaml", &vec![b'#'; (1 << 20) + 1])], "longer than 1 MiB"),
        (vec![file("latin1.yaml", b"# caf\xe9\n")], "not UTF-8 from byte 5 on"),
        (vec![file("one.yaml", &good), file("two.yaml", &good)], "is named \"limit-fast\", as is"),
        (vec![PathBuf::from("/dev/zero")], "no regular file"),
    ] {
        let problems = loader::load(&paths).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        let text = problems[0].to_string();
        assert!(text.contains(said) && text.contains("\n  hint: "), "{text}");
    }
}
