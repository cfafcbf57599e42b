//! Before a cluster's scenarios, one canary: a tiny pod that is OOM-killed shows which of the cluster's sources see such a kill.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::interrupt::Interrupt;
use crate::artifacts::{self, Artifacts, write_whole};
use crate::backend::Backend as _;
use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::local::lock;
use crate::clock;
use crate::diagnosis::canary::{self, Sight};
use crate::evidence::Ending;
use crate::report::model::ClusterReport;
use crate::runner::{self, Shared};
use crate::scenario;

/// What it does. Its pod has the name by which its record is judged.
const SCENARIO: &str = include_str!("canary.yaml");

/// Lets the canary die, unless one has on this cluster and boot, and keeps which sources saw it for the report. An error: no
/// scenario can be run there. False: the run is to end.
pub(super) async fn sings(
    backend: &Arc<KubernetesBackend>,
    number: usize,
    interrupt: &Interrupt,
    artifacts: &Artifacts,
) -> Result<bool, String> {
    let memory = backend.identity().await.map(|identity| memory(&identity));
    // What cannot be read is learned anew.
    let known = memory.as_ref().and_then(|path| artifacts::read_json(path).ok().flatten());
    let remembered = known.is_some();
    let sight = match known {
        Some(sight) => sight,
        None => match die(backend, number, interrupt, artifacts).await? {
            Some(sight) => sight,
            None => return Ok(false),
        },
    };
    let facts = backend.cluster();
    for blind in sight.blind.iter().filter(|_| !remembered) {
        tracing::warn!("{}: the source {} is blind: {}", facts.context, blind.source, blind.why);
    }
    if let Some(path) = memory.filter(|_| !remembered)
        && let Err(why) = remember(&path, &sight)
    {
        tracing::info!("the next run looks again, because {} cannot be written: {why}", path.display());
    }
    let (context, version) = (facts.context.clone(), facts.version.clone());
    let Sight { sees, blind } = sight;
    artifacts.add_cluster(ClusterReport { context, version, sees, blind, remembered })?;
    Ok(true)
}

/// Runs the canary and judges its record; nothing if the run is to end.
async fn die(
    backend: &Arc<KubernetesBackend>,
    number: usize,
    interrupt: &Interrupt,
    artifacts: &Artifacts,
) -> Result<Option<Sight>, String> {
    let scenario = scenario::read("canary.yaml", SCENARIO).map_err(|problems| format!("{problems:?}"))?;
    let folder = artifacts.canary(number).map_err(|error| error.to_string())?;
    let shared = Shared { backend: Arc::clone(backend), interrupted: interrupt.asked.clone() };
    let began = clock::unix_ns();
    let outcome = runner::run(&scenario, canary::POD, &shared, &folder, |_, _| {}).await;
    if outcome.ending == Ending::Interrupted {
        return Ok(None);
    }
    let judged = canary::judge(&artifacts::read_trial(&folder)?.observations);
    backend.judged(&folder, judged.is_ok(), began).await;
    judged
        .map(Some)
        .map_err(|why| format!("{}: {why}; its record is in {}", backend.cluster().context, folder.display()))
}

/// Where it is kept what was seen under these circumstances: gone with the boot, as the folder of the runs' locks is.
fn memory(identity: &str) -> PathBuf {
    let digest = Sha256::digest(identity.as_bytes());
    let name = digest.iter().take(16).fold(String::new(), |name, byte| name + &format!("{byte:02x}"));
    lock::directory().join("canaries").join(format!("{name}.json"))
}

fn remember(path: &std::path::Path, sight: &Sight) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    write_whole(path, &serde_json::to_string(sight)?)
}
