//! The cluster commands where there is no cluster to be had.

use std::path::Path;
use std::process::{Command, Output};

fn exit137(args: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_exit137"))
        .args(args)
        .env("PATH", path)
        .env("KUBECONFIG", path.join("no-kubeconfig"))
        .env_remove("KIND_EXPERIMENTAL_PROVIDER")
        .current_dir(path)
        .output()
        .unwrap()
}

fn says(output: &Output, status: i32, text: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(text), "{said}");
}

#[test]
fn without_kind_or_an_engine_the_environment_fails_with_a_hint() {
    let empty = tempfile::tempdir().unwrap();
    says(&exit137(&["cluster", "list"], empty.path()), 3, "cannot run kind");
    says(&exit137(&["run", "--on", "kind", "limit-fast"], empty.path()), 3, "https://kind.sigs.k8s.io");
    std::os::unix::fs::symlink("/bin/true", empty.path().join("kind")).unwrap();
    says(&exit137(&["cluster", "up"], empty.path()), 3, "kind needs a container engine");
}

#[test]
fn another_cluster_is_always_named() {
    let empty = tempfile::tempdir().unwrap();
    says(&exit137(&["run", "--on", "cluster", "limit-fast"], empty.path()), 2, "--context");
    let unknown = ["run", "--on", "cluster", "--context", "nowhere", "--image", "x:1", "limit-fast"];
    says(&exit137(&unknown, empty.path()), 3, "nowhere");
}

#[test]
fn the_image_is_the_same_whenever_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let one = exit137(&["image", "--output", "one.tar"], folder.path());
    let two = exit137(&["image", "--output", "two.tar"], folder.path());
    assert!(one.status.success());
    assert_eq!(one.stdout, two.stdout);
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("one.tar") == read("two.tar"), "two images of the same programs differ");
    says(&exit137(&["image", "--output", "missing/one.tar"], folder.path()), 3, "cannot write");
}

#[test]
fn what_may_touch_more_than_its_own_pods_is_refused_on_a_cluster_unless_it_is_allowed() {
    let empty = tempfile::tempdir().unwrap();
    let on_cluster = ["run", "--on", "cluster", "--context", "nowhere", "--image", "x:1"];
    for (scenario, why) in [
        ("drain", "evicts pods through the API"),
        ("preemption", "makes a PriorityClass"),
        ("external-kill", "kills a process on its node"),
        ("node-budget", "uses up a node's memory"),
    ] {
        let run = |more: &[&str]| {
            exit137(&[&on_cluster[..], &[scenario, "limit-fast"], more].concat(), empty.path())
        };
        says(&run(&[]), 2, why);
        let refused = run(&[]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("nothing was started") && !said.contains("limit-fast"), "{said}");
        says(&run(&["--allow-disruption"]), 3, "nowhere");
    }
    assert_eq!(
        std::fs::read_dir(empty.path()).unwrap().count(),
        1,
        "only the allowed runs made their folder"
    );
}

#[test]
fn a_run_can_be_judged_again_without_the_manifest_that_it_was_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    for file in ["own-manifest.yaml", "deploy.yaml"] {
        std::fs::copy(examples.join(file), folder.path().join(file)).unwrap();
    }
    // Without a cluster it is skipped, and kept nevertheless.
    let ran = exit137(&["run", "--out", "kept", "."], folder.path());
    assert_eq!(ran.status.code(), Some(4), "{}", String::from_utf8_lossy(&ran.stderr));
    std::fs::remove_file(folder.path().join("deploy.yaml")).unwrap();
    let again = exit137(&["report", "kept"], folder.path());
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(said.contains("own-manifest") && said.contains("needs a cluster"), "{said}");
    says(&exit137(&["check", "own-manifest.yaml"], folder.path()), 2, "");
}
