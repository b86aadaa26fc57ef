//! What each run of a campaign did, by libFuzzer's own account and the kernel's, kept in lines of text in fuzz/runs.txt, which is
//! committed: a campaign is longer than most machines are at hand.
//! It judges nothing.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{command, project};

/// One run, or several.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Run {
    pub(super) executions: u64,
    pub(super) cpu_s: f64,
    pub(super) peak_rss_mb: u64,
    /// Edges of the program that were passed, and libFuzzer's features.
    pub(super) edges: u64,
    pub(super) features: u64,
}

impl Run {
    /// From what libFuzzer said in the end.
    pub(super) fn read(said: &str, cpu_s: f64) -> Option<Self> {
        let stat = |name: &str| {
            said.lines().find_map(|line| line.strip_prefix(name)?.trim_start_matches(':').trim().parse().ok())
        };
        let last = said.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: "))?;
        let word = |name: &str| last.split_whitespace().skip_while(|w| *w != name).nth(1)?.parse().ok();
        Some(Self {
            executions: stat("stat::number_of_executed_units")?,
            cpu_s,
            peak_rss_mb: stat("stat::peak_rss_mb")?,
            edges: word("cov:")?,
            features: word("ft:")?,
        })
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.executions += other.executions;
        self.cpu_s += other.cpu_s;
        self.peak_rss_mb = self.peak_rss_mb.max(other.peak_rss_mb);
        self.edges = self.edges.max(other.edges);
        self.features = self.features.max(other.features);
    }
}

/// CPU seconds of all children that were waited for (proc(5), stat, cutime and cstime).
pub(super) fn children_cpu_s() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // The first behind the name is the third field; these are 16 and 17.
    let ticks: f64 = fields.skip(13).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    let per_second: f64 =
        command::output(Command::new("getconf").arg("CLK_TCK"))?.parse().context("CLK_TCK")?;
    Ok(ticks / per_second)
}

fn file() -> PathBuf {
    project::root().join("fuzz/runs.txt")
}

/// Writes down what the targets are built of.
pub(super) fn built() -> Result<()> {
    std::fs::write(project::target().join("fuzz/commit"), commit()?).context("write target/fuzz/commit")
}

/// What the targets are made of.
const SOURCES: [&str; 9] = [
    "Cargo.toml",
    "tracer-common",
    "tracer-user",
    "fuzz/Cargo.lock",
    "fuzz/Cargo.toml",
    "xtask/src/fuzz.rs",
    "fuzz/bases",
    "fuzz/fuzz_targets",
    "fuzz/src",
];

/// The commit that last changed the sources; a plus where they were changed since.
fn commit() -> Result<String> {
    let git = |words: &[&str]| {
        command::output(Command::new("git").args(words).arg("--").args(SOURCES).current_dir(project::root()))
    };
    let commit = git(&["log", "-1", "--format=%h", "--abbrev=10"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Ok(if changed.is_empty() { commit } else { format!("{commit}+") })
}

/// The commit that the targets here are built of.
fn build() -> Result<String> {
    std::fs::read_to_string(project::target().join("fuzz/commit")).context("the targets are not built")
}

/// Adds a run to those that are kept.
pub(super) fn keep(target: &str, run: &Run) -> Result<()> {
    let Run { executions, cpu_s, peak_rss_mb, edges, features } = run;
    let commit = build()?;
    let line = format!("{target} {commit} {executions} {cpu_s:.2} {peak_rss_mb} {edges} {features}\n");
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(file()).context("open runs.txt")?;
    file.write_all(line.as_bytes()).context("write runs.txt")
}

/// All runs of the newest build of a target, and the commit that was built.
pub(super) fn kept(target: &str) -> (Run, Option<String>) {
    newest(&std::fs::read_to_string(file()).unwrap_or_default(), target)
        .map_or_else(Default::default, |(commit, run)| (run, Some(commit)))
}

/// Runs are in the order in which they were made. Changed sources are no build that anybody could make again.
fn newest(text: &str, target: &str) -> Option<(String, Run)> {
    builds(text, target).into_iter().rfind(|(commit, _)| !commit.ends_with('+'))
}

/// What this build of a target has had. Changed sources have no name that says which: they begin anew.
pub(super) fn had(target: &str) -> Result<Run> {
    let build = build()?;
    let builds = builds(&std::fs::read_to_string(file()).unwrap_or_default(), target);
    let same = builds.into_iter().find(|(commit, _)| *commit == build && !build.ends_with('+'));
    Ok(same.map_or_else(Default::default, |(_, run)| run))
}

fn builds(text: &str, target: &str) -> Vec<(String, Run)> {
    let mut builds: Vec<(String, Run)> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, commit, executions, cpu_s, rss, edges, features] = words[..] else { continue };
        if name != target {
            continue;
        }
        let number = |word: &str| word.parse().unwrap_or(0);
        let run = Run {
            executions: number(executions),
            cpu_s: cpu_s.parse().unwrap_or(0.0),
            peak_rss_mb: number(rss),
            edges: number(edges),
            features: number(features),
        };
        match builds.iter_mut().find(|(built, _)| built == commit) {
            Some((_, total)) => total.add(&run),
            None => builds.push((commit.to_owned(), run)),
        }
    }
    builds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_libfuzzer_are_taken_apart() {
        let said = "INFO: Seed: 1\n#2\tINITED cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 40Mb\n\
            #900\tDONE   cov: 12 ft: 34 corp: 5/6Kb lim: 8 exec/s: 90 rss: 41Mb\n\
            stat::number_of_executed_units: 900\nstat::average_exec_per_sec:     90\nstat::peak_rss_mb:              41\n";
        let run = Run::read(said, 2.5).unwrap();
        assert_eq!(run, Run { executions: 900, cpu_s: 2.5, peak_rss_mb: 41, edges: 12, features: 34 });
        assert_eq!(Run::read("nothing of it", 0.0), None);
        assert!(children_cpu_s().unwrap() >= 0.0);
    }

    #[test]
    fn runs_of_one_build_add_up() {
        let text = "elf aa 9 121.00 30 5 6\nelf bb 10 120.00 30 7 9\nx86 bb 1 1.00 1 1 1\n\
            elf bb 20 60.50 35 8 9\nelf cc 3 10.00 99 99 99\n";
        let both = Run { executions: 30, cpu_s: 180.5, peak_rss_mb: 35, edges: 8, features: 9 };
        let found = builds(text, "elf");
        assert_eq!(found.iter().map(|(commit, _)| commit.as_str()).collect::<Vec<_>>(), ["aa", "bb", "cc"]);
        assert_eq!(found[1].1, both);
        assert_eq!(builds(text, "dwarf"), []);
        let said = |text: &str| newest(text, "elf").map(|(commit, run)| (commit, run.executions));
        assert_eq!(said(text), Some(("cc".into(), 3)), "not the one that ran longest");
        assert_eq!(said("elf aa 9 1 1 1 1\nelf aa+ 8 1 1 1 1\n"), Some(("aa".into(), 9)));
    }
}
