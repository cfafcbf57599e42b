//! Puts the scenarios that ship into the program, so that an installed one has them too.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let folder = Path::new(&root).join("scenarios");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .filter(|path: &io::Result<_>| {
            path.as_ref().map_or(true, |path| path.extension().is_some_and(|extension| extension == "yaml"))
        })
        .collect::<io::Result<Vec<_>>>()?;
    files.sort();
    let mut list = String::from("[\n");
    for file in files {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let file = file.display().to_string();
        writeln!(list, "    ({:?}, include_str!({:?})),", format!("scenarios/{name}"), file)
            .map_err(io::Error::other)?;
    }
    list.push_str("]\n");
    fs::write(Path::new(&out).join("shipped.rs"), list)
}
