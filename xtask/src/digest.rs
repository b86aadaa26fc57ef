//! The digest that ties the committed eBPF objects to their sources: `sha256sum -c` reads it too.
//!
//! Apart from the build because a plain `cargo test` checks it without any eBPF toolchain. It never rebuilds.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Where the digest lies, from the root of the checkout.
pub const FILE: &str = "tracer-user/ebpf/SOURCES.sha256";

/// The folder of the committed objects, from the root of the checkout.
pub const OBJECTS: &str = "tracer-user/ebpf";

/// The crates an object is made of. tracer-user and the workspace's own files play no part in it.
const CRATES: [&str; 2] = ["tracer-common", "tracer-ebpf"];

/// One line per source file and object, sorted: `sha256  path`.
pub fn compute(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for name in CRATES {
        sources(&root.join(name), &mut files).with_context(|| format!("cannot list {name}/"))?;
    }
    let objects = root.join(OBJECTS);
    if objects.exists() {
        files.extend(
            entries(&objects)?.into_iter().filter(|file| file.extension().is_some_and(|end| end == "o")),
        );
    }
    files.sort();
    let mut lines = String::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(root).expect("every file was found below the root");
        writeln!(lines, "{:x}  {}", Sha256::digest(&bytes), name.display())
            .expect("writing to a string does not fail");
    }
    Ok(lines)
}

/// The files whose contents differ from what the digest says, empty where the objects are fresh. A checkout without the eBPF
/// crate has no objects to be stale.
pub fn stale(root: &Path) -> Result<Vec<String>> {
    if !root.join("tracer-ebpf").exists() {
        return Ok(Vec::new());
    }
    let written = fs::read_to_string(root.join(FILE)).unwrap_or_default();
    let now = compute(root)?;
    let only = |left: &str, right: &str| -> Vec<String> {
        left.lines()
            .filter(|line| !right.lines().any(|other| other == *line))
            .filter_map(|line| Some(line.split_once("  ")?.1.to_owned()))
            .collect()
    };
    let mut names = only(&written, &now);
    names.extend(only(&now, &written));
    names.sort();
    names.dedup();
    if names.is_empty() && written != now {
        names.push(FILE.to_owned());
    }
    Ok(names)
}

/// True where every committed object was built from the sources beside it.
pub fn digest_is_fresh(root: &Path) -> Result<bool> {
    Ok(stale(root)?.is_empty())
}

/// What cargo reads: manifests, the lock file, cargo's configuration and Rust sources.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" {
                sources(&path, files)?;
            }
        } else if matches!(path.extension().and_then(|end| end.to_str()), Some("rs" | "toml" | "lock")) {
            files.push(path);
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_added_or_removed_source_makes_the_objects_stale() {
        let root = std::env::temp_dir().join(format!("tracer-digest-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            let file = root.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("tracer-common/src/lib.rs", "a");
        assert!(digest_is_fresh(&root).unwrap(), "no eBPF crate, no objects");
        write("tracer-ebpf/src/main.rs", "b");
        write("tracer-ebpf/target/x.rs", "not a source");
        write("tracer-user/ebpf/tracer-x86_64.o", "object");
        assert!(!digest_is_fresh(&root).unwrap(), "a missing digest is stale");
        write(FILE, &compute(&root).unwrap());
        assert!(digest_is_fresh(&root).unwrap());
        write("tracer-common/src/lib.rs", "changed");
        assert_eq!(stale(&root).unwrap(), ["tracer-common/src/lib.rs"]);
        write("tracer-common/src/lib.rs", "a");
        write("tracer-ebpf/src/more.rs", "");
        assert_eq!(stale(&root).unwrap(), ["tracer-ebpf/src/more.rs"]);
        fs::remove_file(root.join("tracer-ebpf/src/more.rs")).unwrap();
        write("tracer-user/ebpf/tracer-x86_64.o", "another");
        assert_eq!(stale(&root).unwrap(), ["tracer-user/ebpf/tracer-x86_64.o"]);
        fs::remove_dir_all(&root).unwrap();
    }
}
