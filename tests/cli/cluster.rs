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
