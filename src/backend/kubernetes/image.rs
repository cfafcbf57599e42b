//! Our own image: an archive as `docker save` writes it, made from this program and the workload, both static. No engine, no
//! Dockerfile, no registry.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write};
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

/// The image, ready to be written. What is in it stays in the programs' files: a run keeps this for as long as it lasts.
#[derive(Debug)]
pub struct Image {
    name: String,
    programs: Vec<(&'static str, File)>,
    digest: String,
}

impl Image {
    /// Makes the image of the programs that run here.
    pub fn build() -> Result<Self, BackendError> {
        let own = std::env::current_exe()
            .map_err(|error| BackendError::doing("find out where this program is", error))?;
        let mut programs = Vec::new();
        for (name, path) in [("exit137", own), ("exit137-workload", find_workload()?)] {
            let file = File::open(&path)
                .map_err(|error| BackendError::doing(format!("read {}", path.display()), error))?;
            programs.push((name, file));
        }
        Self::of(programs).map_err(|error| BackendError::doing("make the image", error))
    }

    fn of(programs: Vec<(&'static str, File)>) -> io::Result<Self> {
        let digest = layer(&programs, Digesting::new(io::sink()))?.finish().0;
        // By what is in it, so that a node that has the name has the very content.
        let name = format!("exit137.local/exit137:{}", digest.get(..12).unwrap_or_default());
        Ok(Self { name, programs, digest })
    }

    /// Its name; the tag is of its content.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the archive.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut archive = Builder::new(BufWriter::new(File::create(path)?));
        let config = config(&self.digest);
        let manifest =
            json!([{"Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar.gz"]}]);
        add(&mut archive, "config.json", EntryType::Regular, 0o644, &config)?;
        let packed = self.pack()?;
        let size = packed.metadata()?.len();
        append(&mut archive, "layer.tar.gz", EntryType::Regular, 0o644, size, BufReader::new(packed))?;
        add(&mut archive, "manifest.json", EntryType::Regular, 0o644, manifest.to_string().as_bytes())?;
        archive.into_inner()?.flush()
    }

    /// The layer in a file of its own, for an archive says how long an entry is before the entry.
    fn pack(&self) -> io::Result<File> {
        let packer = GzEncoder::new(BufWriter::new(tempfile::tempfile()?), Compression::best());
        let (digest, packer) = layer(&self.programs, Digesting::new(packer))?.finish();
        if digest != self.digest {
            return Err(io::Error::other(
                "the programs were changed while the run was using them; run it again",
            ));
        }
        let mut packed = packer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        packed.rewind()?;
        Ok(packed)
    }
}

/// Takes the digest of what passes through.
struct Digesting<W> {
    digest: Sha256,
    to: W,
}

impl<W> Digesting<W> {
    fn new(to: W) -> Self {
        Self { digest: Sha256::new(), to }
    }

    fn finish(self) -> (String, W) {
        (hex(&self.digest.finalize()), self.to)
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn layer<W: Write>(programs: &[(&'static str, File)], to: W) -> io::Result<W> {
    let mut layer = Builder::new(to);
    add(&mut layer, &format!("{FOLDER}/"), EntryType::Directory, 0o755, &[])?;
    add(&mut layer, "tmp/", EntryType::Directory, 0o1777, &[])?;
    for (name, file) in programs {
        let mut from = file;
        from.rewind()?;
        let (path, size) = (format!("{FOLDER}/{name}"), file.metadata()?.len());
        append(&mut layer, &path, EntryType::Regular, 0o755, size, BufReader::new(file))?;
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
    append(archive, path, kind, mode, bytes.len() as u64, bytes)
}

fn append(
    archive: &mut Builder<impl Write>,
    path: &str,
    kind: EntryType,
    mode: u32,
    size: u64,
    from: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    archive.append_data(&mut header, path, from)
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
        let folder = tempfile::tempdir().unwrap();
        let of = |bytes: &[u8]| {
            let path = folder.path().join("archive");
            let mut program = tempfile::tempfile().unwrap();
            program.write_all(bytes).unwrap();
            let image = Image::of(vec![("exit137", program)]).unwrap();
            image.write(&path).unwrap();
            (image.name().to_owned(), std::fs::read(path).unwrap())
        };
        let (one, same, other) = (of(b"a"), of(b"a"), of(b"b"));
        assert_eq!(one, same);
        assert_ne!(one.0, other.0);
    }

    #[test]
    fn programs_that_change_under_a_run_are_refused() {
        let mut program = tempfile::tempfile().unwrap();
        let image = Image::of(vec![("exit137", program.try_clone().unwrap())]).unwrap();
        program.write_all(b"other").unwrap();
        let error = image.write(&tempfile::tempdir().unwrap().path().join("archive")).unwrap_err();
        assert!(error.to_string().contains("changed"), "{error}");
    }
}
