//! A folder of a test's own, removed with its value. Apart so that two runs side by side never share a path.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one below the target folder, where files may be executed.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = xtask::project::target().join(format!("tmp/{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// How many entries it has.
    pub fn entries(&self) -> usize {
        fs::read_dir(&self.0).map_or(0, Iterator::count)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left lies below the target folder and is in nobody's way.
        drop(fs::remove_dir_all(&self.0));
    }
}
