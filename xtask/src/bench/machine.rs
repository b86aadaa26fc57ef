//! What a chapter's figures belong to: kind of machine, kernel, commit, versions, load. Never the machine's name.

use std::fs;
use std::process::Command;

use crate::toolchains::Toolchain;
use crate::{command, project};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Machine {
    pub(super) kernel: String,
    pub(super) cpu: String,
    pub(super) commit: String,
    pub(super) go: String,
    pub(super) other: String,
    pub(super) load: String,
}

impl Machine {
    /// Before the first measure: what is committed or built meanwhile is not what was measured.
    pub(super) fn read(toolchains: &[Toolchain]) -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
        let go: Vec<&str> = toolchains.iter().map(|toolchain| toolchain.pin.version).collect();
        let bpftrace = command::output(Command::new("bpftrace").arg("--version")).unwrap_or_default();
        Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cpu: format!("{count} x {}", model.map_or("unknown", |(_, name)| name)),
            commit: project::commit(),
            go: go.join(", "),
            other: bpftrace,
            load: load(),
        }
    }

    /// After the last measure.
    pub(super) fn ended(self) -> Self {
        Self { load: format!("{} before, {} after", self.load, load()), ..self }
    }

    pub(super) fn line(&self) -> String {
        let Self { kernel, cpu, commit, go, other, load } = self;
        format!(
            "Commit {commit}; kernel {kernel}; {cpu} (a virtual machine shared with other work); Go {go}; {other}; load average {load}."
        )
    }
}

/// The load averages of one, five and fifteen minutes.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
