//! The thinking half of exit137 reads records; it does no I/O, has no time of its own, and knows nothing of the acting
//! half. This reads `src/` and holds it to that.
#![expect(clippy::unwrap_used, reason = "a test's helper may fail it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The thinking modules: a file, or a folder with all that lies in it.
const THINKING: [&str; 9] = [
    "exit_status",
    "scenario",
    "cause",
    "evidence",
    "diagnosis",
    "statistics",
    "report",
    "sizing",
    "runner/lifecycle",
];

/// Other crates that a thinking module may name. None of them does I/O in the features that are used.
const CRATES: [&str; 13] = [
    "exit137_workload",
    "hdrhistogram",
    "jiff",
    "jsonschema",
    "k8s_openapi",
    "owo_colors",
    "quick_junit",
    "schemars",
    "serde",
    "serde_json",
    "serde_saphyr",
    "sha2",
    "thiserror",
];

/// Parts of the standard library that reach outside.
const OUTSIDE: [&str; 9] = [
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::io::std",
];

fn source_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The module that a file below `src/` is: `diagnosis/rules/oom`.
fn modules() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    let module = |path: &PathBuf| {
        let name = path.strip_prefix(&src).unwrap().with_extension("").to_str().unwrap().to_owned();
        (name, code_of(&fs::read_to_string(path).unwrap()))
    };
    files.iter().map(module).collect()
}

/// Without comments and without the unit tests at its end.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn thinks(module: &str) -> bool {
    THINKING.iter().any(|part| module == *part || module.starts_with(&format!("{part}/")))
}

/// The first segments after `prefix` wherever it is named: `crate::evidence::Fact` names `evidence`.
fn named_after<'a>(code: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let starts = code.match_indices(prefix).map(|(at, _)| at + prefix.len());
    starts.map(|at| code[at..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()).collect()
}

#[test]
fn the_thinking_modules_exist() {
    let modules = modules();
    for part in THINKING {
        assert!(modules.iter().any(|(name, _)| name == part), "src/{part}.rs");
    }
}

#[test]
fn thinking_modules_do_not_reach_outside() {
    for (module, code) in modules().iter().filter(|(module, _)| thinks(module)) {
        for outside in OUTSIDE {
            assert!(!code.contains(outside), "src/{module}.rs uses {outside}");
        }
        assert!(!code.contains("async fn"), "src/{module}.rs is asynchronous");
    }
}

#[test]
fn thinking_modules_name_only_thinking_modules() {
    for (module, code) in modules().iter().filter(|(module, _)| thinks(module)) {
        for named in named_after(code, "crate::") {
            let child = named_after(code, &format!("crate::{named}::"));
            let allowed = thinks(named) || child.iter().all(|child| thinks(&format!("{named}/{child}")));
            assert!(allowed, "src/{module}.rs names crate::{named}, which acts");
        }
    }
}

#[test]
fn thinking_modules_use_only_crates_without_io() {
    for (module, code) in modules().iter().filter(|(module, _)| thinks(module)) {
        for line in code.lines().map(str::trim_start) {
            let Some(path) = line.strip_prefix("use ").or_else(|| line.strip_prefix("pub use ")) else {
                continue;
            };
            let Some((root, _)) = path.split_once("::") else { continue };
            let own = ["crate", "super", "self", "std"].contains(&root);
            let sibling = root.chars().next().is_some_and(char::is_uppercase)
                || modules().iter().any(|(other, _)| other.rsplit('/').next() == Some(root) && thinks(other));
            assert!(own || sibling || CRATES.contains(&root), "src/{module}.rs uses the crate {root}");
        }
    }
}

#[test]
fn who_alone_knows_what() {
    let only = |needle: &str, allowed: &[&str]| {
        for (module, code) in modules() {
            let may = allowed.iter().any(|part| module == *part || module.starts_with(&format!("{part}/")));
            assert!(may || !code.contains(needle), "src/{module}.rs knows of {needle}");
        }
    };
    only("quick_junit", &["report/junit"]);
    only("indicatif", &["progress"]);
    // kind and the kubelet have configurations of their own in YAML, and a person reads what is kept of the API's objects in it.
    only("serde_saphyr", &["scenario", "loader", "backend/kubernetes/kind", "backend/kubernetes/artifacts"]);
    only("memory.events", &["evidence", "observe/memcg", "diagnosis"]);
    // A kind node's own cgroup is read inside of it, by its engine.
    let of_nodes = "backend/kubernetes/kind/usage";
    only("memory.limit_in_bytes", &["backend/local", "observe/memcg", "command/doctor", of_nodes]);
    only("clap::", &["cli", "main"]);
}

#[test]
fn every_folder_of_modules_has_its_file_beside_it() {
    for (module, _) in modules() {
        assert!(!module.ends_with("/mod"), "src/{module}.rs: name it after its folder");
    }
}
