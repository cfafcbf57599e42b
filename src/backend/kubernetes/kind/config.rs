//! The kind config of a new cluster: what scenarios need of its nodes, merged into what the user says, which stays as it is.

use serde_json::{Map, Value, json};

use crate::backend::BackendError;

/// The kubelet keeps the condition, and does not admit what it might evict again, for so long after the pressure has gone; its
/// own default is five minutes.
const PRESSURE_HOLDS: &str = "30s";

/// What the nodes of a cluster are to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `node.evictAt`.
    pub evict_at: Option<u64>,
    /// `node.allocatable`.
    pub allocatable: Option<u64>,
    /// `node.singleProcessOOMKill`, where the kubelet has to be told.
    pub single_process_oom_kill: bool,
    /// `node.maxPods`.
    pub max_pods: Option<u32>,
    /// So many nodes for pods alone; with none, the control plane's node runs them.
    pub workers: u32,
    /// The scenarios that need it, to name them.
    pub wanted_by: Vec<String>,
}

/// The text of the config. `fail_cgroup_v1` is what the kubelet is to be told of that name.
pub(super) fn generate(
    user: Option<&str>,
    settings: &Settings,
    fail_cgroup_v1: Option<bool>,
) -> Result<String, BackendError> {
    let mut config = match user {
        Some(text) => serde_saphyr::from_str(text)
            .map_err(|error| BackendError::doing("read the kind config", error))?,
        None => Map::new(),
    };
    config.entry("kind").or_insert_with(|| json!("Cluster"));
    config.entry("apiVersion").or_insert_with(|| json!("kind.x-k8s.io/v1alpha4"));
    add_workers(&mut config, settings.workers);
    let theirs = kubelet_patches(&config);
    let mut patch = Map::new();
    for (key, value) in wanted(settings) {
        disagree(&theirs, &key, &value, settings)?;
        patch.insert(key, value);
    }
    // Nobody's need: what the user says of them holds.
    let said = |key: &str| theirs.iter().any(|(_, patch)| patch.contains_key(key));
    if settings.evict_at.is_some() && !said("evictionPressureTransitionPeriod") {
        patch.insert("evictionPressureTransitionPeriod".into(), json!(PRESSURE_HOLDS));
    }
    if let Some(fail) = fail_cgroup_v1.filter(|_| !said("failCgroupV1")) {
        patch.insert("failCgroupV1".into(), json!(fail));
    }
    // They depend on what the idle node uses, so `kubelet.rs` writes them later; who says something else is told now.
    for (key, inner, is_set) in [
        ("evictionHard", "memory.available", settings.evict_at.is_some()),
        ("systemReserved", "memory", settings.allocatable.is_some()),
    ] {
        let said = theirs.iter().find_map(|(place, patch)| Some((place, patch.get(key)?.get(inner)?)));
        if let Some((place, said)) = said.filter(|_| is_set) {
            return Err(conflict(place, &format!("{key}: {{{inner}: {said}}}"), "another one", settings));
        }
    }
    if !patch.is_empty() {
        patch.insert("apiVersion".into(), json!("kubelet.config.k8s.io/v1beta1"));
        patch.insert("kind".into(), json!("KubeletConfiguration"));
        // A document of the kubelet's own: the same for every version of kubeadm's API.
        let patches = config.entry("kubeadmConfigPatches").or_insert_with(|| json!([]));
        if let Some(patches) = patches.as_array_mut() {
            patches.push(json!(Value::Object(patch).to_string()));
        }
    }
    Ok(Value::Object(config).to_string())
}

/// What the kubelets must be told from their first start.
fn wanted(settings: &Settings) -> Vec<(String, Value)> {
    let max_pods = settings.max_pods.map(|max| ("maxPods".to_owned(), json!(max)));
    let single = settings.single_process_oom_kill.then(|| ("singleProcessOOMKill".to_owned(), json!(true)));
    max_pods.into_iter().chain(single).collect()
}

/// Adds the workers that are not there yet, of the image that the other nodes have.
fn add_workers(config: &mut Map<String, Value>, wanted: u32) {
    let nodes = config.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_worker = |node: &&Value| node.get("role").and_then(Value::as_str) == Some("worker");
    let there = nodes.iter().filter(is_worker).count();
    let lacking = usize::try_from(wanted).unwrap_or(0).saturating_sub(there);
    if lacking == 0 {
        return;
    }
    let mut worker = json!({"role": "worker"});
    if let Some(image) = nodes.iter().find_map(|node| node.get("image")) {
        worker["image"] = image.clone();
    }
    let mut all = if nodes.is_empty() { vec![json!({"role": "control-plane"})] } else { nodes };
    all.extend(std::iter::repeat_n(worker, lacking));
    config.insert("nodes".into(), Value::Array(all));
}

/// Every patch of the user's to a kubelet's configuration, and where it is.
fn kubelet_patches(config: &Map<String, Value>) -> Vec<(String, Map<String, Value>)> {
    let of = |place: String, patches: Option<&Value>| {
        let patches = patches.and_then(Value::as_array).cloned().unwrap_or_default();
        patches.into_iter().enumerate().filter_map(move |(index, patch)| {
            let patch: Map<String, Value> = serde_saphyr::from_str(patch.as_str()?).ok()?;
            let is_kubelets = patch.get("kind").and_then(Value::as_str) == Some("KubeletConfiguration");
            is_kubelets.then(|| (format!("{place}kubeadmConfigPatches[{index}]"), patch))
        })
    };
    let nodes = config.get("nodes").and_then(Value::as_array).into_iter().flatten().enumerate();
    let per_node =
        nodes.flat_map(|(index, node)| of(format!("nodes[{index}]."), node.get("kubeadmConfigPatches")));
    of(String::new(), config.get("kubeadmConfigPatches")).chain(per_node).collect()
}

/// The same key with another value is nobody's to decide.
fn disagree(
    theirs: &[(String, Map<String, Value>)],
    key: &str,
    value: &Value,
    settings: &Settings,
) -> Result<(), BackendError> {
    let other = theirs
        .iter()
        .find_map(|(place, patch)| patch.get(key).filter(|said| *said != value).map(|said| (place, said)));
    other.map_or(Ok(()), |(place, said)| {
        Err(conflict(place, &format!("{key}: {said}"), &value.to_string(), settings))
    })
}

fn conflict(place: &str, said: &str, ours: &str, settings: &Settings) -> BackendError {
    BackendError(format!(
        "the kind config says {said} ({place}), and the `node` of {} needs {ours}; take one of the two away",
        settings.wanted_by.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(user: &str, settings: &Settings) -> Value {
        serde_json::from_str(&generate(Some(user), settings, None).unwrap()).unwrap()
    }

    fn patch(config: &Value, index: usize) -> Value {
        serde_json::from_str(config["kubeadmConfigPatches"][index].as_str().unwrap()).unwrap()
    }

    #[test]
    fn what_scenarios_need_is_added_and_what_the_user_says_stays() {
        let user = "networking: {disableDefaultCNI: true}\nnodes:\n- {role: control-plane, image: a}\n\
                    kubeadmConfigPatches: ['{kind: KubeletConfiguration, maxPods: 250, logging: {}}']\n";
        let settings =
            Settings { max_pods: Some(250), evict_at: Some(1 << 30), workers: 1, ..Settings::default() };
        let config = config(user, &settings);
        assert_eq!(config["networking"]["disableDefaultCNI"], json!(true));
        assert_eq!(
            config["nodes"],
            json!([{"role": "control-plane", "image": "a"}, {"role": "worker", "image": "a"}])
        );
        assert_eq!(
            config["kubeadmConfigPatches"][0],
            "{kind: KubeletConfiguration, maxPods: 250, logging: {}}"
        );
        assert_eq!(
            patch(&config, 1),
            json!({"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
                   "maxPods": 250, "evictionPressureTransitionPeriod": "30s"})
        );
    }

    #[test]
    fn the_very_same_key_with_another_value_is_an_error_that_names_both() {
        let user =
            "nodes:\n- role: worker\n  kubeadmConfigPatches: ['{kind: KubeletConfiguration, maxPods: 10}']";
        let settings =
            Settings { max_pods: Some(250), wanted_by: vec!["many".into()], ..Settings::default() };
        let why = generate(Some(user), &settings, None).unwrap_err().to_string();
        assert!(why.contains("maxPods: 10 (nodes[0].kubeadmConfigPatches[0])"), "{why}");
        assert!(why.contains("`node` of many needs 250"), "{why}");
        let user =
            "kubeadmConfigPatches: ['{kind: KubeletConfiguration, evictionHard: {memory.available: 1Gi}}']";
        let settings =
            Settings { evict_at: Some(1), wanted_by: vec!["evicts".into()], ..Settings::default() };
        let why = generate(Some(user), &settings, None).unwrap_err().to_string();
        assert!(why.contains("memory.available: \"1Gi\"") && why.contains("evicts"), "{why}");
    }

    #[test]
    fn without_any_need_there_is_one_node_and_no_patch() {
        let plain = config("{}", &Settings::default());
        assert_eq!(plain, json!({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}));
        let text = generate(None, &Settings::default(), Some(false)).unwrap();
        let told = patch(&serde_json::from_str(&text).unwrap(), 0);
        assert_eq!(told["failCgroupV1"], json!(false));
    }
}
