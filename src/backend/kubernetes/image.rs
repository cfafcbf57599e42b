//! Our own image: an archive as `docker save` writes it, made from this program and the workload, both static. No engine, no
//! Dockerfile, no registry.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::backend::BackendError;
use crate::backend::local::program::find_workload;

/// Where in the image the programs are.
const FOLDER: &str = "exit137";

/// The image, ready to be written.
#[derive(Debug)]
pub struct Image {
    name: String,
    layer: Vec<u8>,
    config: Vec<u8>,
}

impl Image {
    /// Makes the image of the programs that run here.
    pub fn build() -> Result<Self, BackendError> {
        let own = std::env::current_exe()
            .map_err(|error| BackendError::doing("find out where this program is", error))?;
        let programs = [("exit137", own), ("exit137-workload", find_workload()?)];
        let mut contents = Vec::new();
        for (name, path) in programs {
            let bytes = fs::read(&path)
                .map_err(|error| BackendError::doing(format!("read {}", path.display()), error))?;
            contents.push((name, bytes));
        }
        Self::of(&contents).map_err(|error| BackendError::doing("make the image", error))
    }

    fn of(programs: &[(&str, Vec<u8>)]) -> io::Result<Self> {
        let plain = layer(programs)?;
        let digest = hex(&Sha256::digest(&plain));
        let config = config(&digest);
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&plain)?;
        // By what is in it, so that a node that has the name has the very content.
        let name = format!("exit137.local/exit137:{}", digest.get(..12).unwrap_or_default());
        Ok(Self { name, layer: packed.finish()?, config })
    }

    /// Its name; the tag is of its content.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the archive.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut archive = Builder::new(BufWriter::new(File::create(path)?));
        let manifest =
            json!([{"Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar.gz"]}]);
        add(&mut archive, "config.json", EntryType::Regular, 0o644, &self.config)?;
        add(&mut archive, "layer.tar.gz", EntryType::Regular, 0o644, &self.layer)?;
        add(&mut archive, "manifest.json", EntryType::Regular, 0o644, manifest.to_string().as_bytes())?;
        archive.into_inner()?.flush()
    }
}

fn layer(programs: &[(&str, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    add(&mut layer, &format!("{FOLDER}/"), EntryType::Directory, 0o755, &[])?;
    add(&mut layer, "tmp/", EntryType::Directory, 0o1777, &[])?;
    for (name, bytes) in programs {
        add(&mut layer, &format!("{FOLDER}/{name}"), EntryType::Regular, 0o755, bytes)?;
    }
    layer.into_inner()
}

/// An entry that is the same whenever it is made.
fn add(
    archive: &mut Builder<impl Write>,
    path: &str,
    kind: EntryType,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

fn config(diff_id: &str) -> Vec<u8> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let path = format!("/{FOLDER}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [format!("/{FOLDER}/exit137")], "Env": [format!("PATH={path}")]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
        "history": [{"created_by": "exit137 image"}]
    })
    .to_string()
    .into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_programs_make_the_same_image_and_others_another_name() {
        let of = |bytes: &[u8]| Image::of(&[("exit137", bytes.to_vec())]).unwrap();
        let (one, same, other) = (of(b"a"), of(b"a"), of(b"b"));
        assert_eq!((one.name(), &one.layer, &one.config), (same.name(), &same.layer, &same.config));
        assert_ne!(one.name(), other.name());
    }
}
