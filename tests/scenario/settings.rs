//! `--set`: any field of any scenario, and nothing else of it.

use std::path::Path;

use exit137::loader::{Template, load};
use exit137::scenario::Scenario;
use exit137::scenario::setting::Settings;

#[expect(clippy::unwrap_used, reason = "a test's helper may fail it")]
fn set(file: &Path, settings: &[&str]) -> Result<exit137::loader::Loaded, String> {
    let list = settings.iter().map(|setting| setting.parse().unwrap()).collect();
    let template = Template::read(file).unwrap();
    let set = template.with(&Settings { list, requests_ratio: None });
    set.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name)
}

#[test]
fn a_scenario_in_which_one_field_is_set_differs_in_nothing_else_and_its_text_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for loaded in load(&[]).unwrap() {
        let name = loaded.path.file_stem().unwrap();
        let changed = set(Path::new(name), &["metadata.name=\"137\""]).unwrap();
        let same = Scenario {
            name: loaded.scenario.name.clone(),
            hash: loaded.scenario.hash.clone(),
            ..changed.scenario.clone()
        };
        assert_eq!(same, loaded.scenario, "{}", loaded.path.display());
        // What is kept can be read again: it is the scenario that was run.
        let kept = folder.path().join("kept.yaml");
        std::fs::write(&kept, &changed.text).unwrap();
        assert_eq!(load(&[kept]).unwrap()[0].scenario, changed.scenario, "{}", loaded.path.display());
    }
}

#[test]
fn what_a_manifest_says_is_set_by_its_patch() {
    let file = example("own-manifest.yaml");
    let limit = |loaded: &exit137::loader::Loaded| loaded.scenario.pods[0].containers[0].limit;
    let changed =
        set(&file, &["pods.web.containers.app.resources.limits.memory=300Mi", "pods.web.replicas=3"])
            .unwrap();
    assert_eq!((limit(&changed), changed.scenario.pods[0].replicas), (Some(300 << 20), 3));
    assert!(changed.text.contains("patch:") && !changed.text.contains("spec:"), "{}", changed.text);
    let wrong = set(&file, &["pods.web.containers.ap.resources.limits.memory=300Mi"]).unwrap_err();
    assert!(wrong.contains("no container ap in pod web; there is app"), "{wrong}");
}

#[test]
fn a_value_is_what_the_field_is_and_a_wrong_one_is_told_with_its_place() {
    let file = example("checkout.yaml");
    let changed = set(
        &file,
        &[
            "pods.checkout.containers.app.env=[{name: N, value: x}]",
            "pods.checkout.containers.app.env.N.value=5",
        ],
    );
    assert!(changed.unwrap().text.contains("\"5\""), "a variable's value is a text");
    let changed = set(&file, &["node.memory=128Mi", "observe.for=4s", "backOff.scale=0.5", "timeout=1m"])
        .unwrap()
        .scenario;
    assert_eq!((changed.node.memory, changed.observe.for_ms), (Some(128 << 20), 4000));
    for (setting, said) in [
        ("pods.checkout.containers.app.resources.limits.memory=64MB", "did you mean 64M?"),
        ("pods.checkout.replicas=many", "must be a whole number"),
        ("observe.for=4", "say 4s or 4ms"),
        ("pods.checkout.containers.app.workload.hog.sizes=1Mi", "did you mean size?"),
        ("observe.for.long=4s", "has nothing inside"),
        ("observe=4s", "observe"),
    ] {
        let wrong = set(&file, &[setting]).unwrap_err();
        assert!(wrong.contains(said) && wrong.contains("checkout.yaml:"), "{setting}: {wrong}");
    }
}
