//! The pinned Go toolchains as the tests see them, and the fixtures built with them.
//!
//! It never fetches: `cargo xtask setup` does, and hands the paths over by environment or by a file under target/.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use xtask::toolchains::{self, EVERY, PINS, Pin};

pub use xtask::fixtures::{Mode, Variant};

/// One Go toolchain that is on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Go {
    pub pin: Pin,
    /// Absolute path of this version's own `go`.
    pub path: PathBuf,
}

impl Go {
    /// The toolchains every live test runs on, oldest first; empty where any of them is missing.
    pub fn all() -> Vec<Self> {
        Self::these(&PINS)
    }

    /// One toolchain of every supported minor, oldest first; empty where any of them is missing.
    pub fn every() -> Vec<Self> {
        Self::these(&EVERY)
    }

    fn these(pins: &[Pin]) -> Vec<Self> {
        let found: Vec<Self> = pins.iter().copied().filter_map(Self::of).collect();
        if found.len() == pins.len() { found } else { Vec::new() }
    }

    /// One that names no functions, one with malloc headers, one with Swiss maps and Green Tea's marks, and one with
    /// size-specialised allocators: for what takes a while on each.
    pub fn milestones() -> impl Iterator<Item = (Self, Mode)> {
        Self::every().into_iter().filter_map(|go| {
            let mode = match go.pin.minor() {
                22 | 26 | 27 => Mode::StrippedPie,
                24 => Mode::Ordinary,
                _ => return None,
            };
            Some((go, mode))
        })
    }

    /// The one that builds the demo. Call it behind `live!()`.
    pub fn demo() -> Self {
        Self::of(toolchains::DEMO).expect("the test checked that the toolchains are there")
    }

    fn of(pin: Pin) -> Option<Self> {
        let path = match std::env::var_os(pin.variable) {
            Some(path) => PathBuf::from(path),
            None => remembered(pin)?,
        };
        path.exists().then_some(Self { pin, path })
    }

    /// The fixture of that name, built once per state of its sources.
    pub fn build(&self, fixture: &str, variant: impl Into<Variant>) -> PathBuf {
        xtask::fixtures::build(&self.path, fixture, variant).unwrap_or_else(|error| panic!("{error:#}"))
    }
}

/// The `go` command of a pinned version, deaf to what the machine has on its PATH. Call it behind `live!(Go)`.
pub fn command(version: &str) -> Command {
    let go = EVERY.into_iter().filter_map(Go::of).find(|go| go.pin.version == version);
    let go = go.unwrap_or_else(|| panic!("Go {version} is not one of the pinned toolchains"));
    toolchains::go_command(&go.path)
}

/// Every toolchain in both modes: the matrix of the live tests.
pub fn matrix() -> Vec<(Go, Mode)> {
    Go::all()
        .into_iter()
        .flat_map(|go| [Mode::Ordinary, Mode::StrippedPie].map(|mode| (go.clone(), mode)))
        .collect()
}

/// Every minor once, built in one of the two modes by turns, and the toolchains of [`matrix`] in both: for what is read
/// from memory, where each version is a layout of its own.
pub fn every_version() -> Vec<(Go, Mode)> {
    let others = Go::every().into_iter().filter(|go| !PINS.contains(&go.pin)).map(|go| {
        let mode = if go.pin.minor() % 2 == 0 { Mode::StrippedPie } else { Mode::Ordinary };
        (go, mode)
    });
    others.chain(matrix()).collect()
}

fn remembered(pin: Pin) -> Option<PathBuf> {
    let text = fs::read_to_string(toolchains::memory()).ok()?;
    text.lines().find_map(|line| Some(PathBuf::from(line.strip_prefix(pin.variable)?.strip_prefix('=')?)))
}
