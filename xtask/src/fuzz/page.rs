//! docs/fuzzing.md, made of the runs in fuzz/runs.txt. What was found is told by hand, in docs/fuzzing-found.md, and
//! copied: a machine does not know why a crash was one.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{TARGETS, TIMEOUT_S, stats};
use crate::project;

pub(super) fn write() -> Result<()> {
    let root = project::root();
    let mut page = String::from(
        "# Hostile bytes\n\n\
        Written by `cargo xtask fuzz --page` from fuzz/runs.txt. `cargo xtask fuzz --minutes 30 --all` is the whole campaign,\n\
        30 CPU minutes for each target; one that was cut off is gone on with by the same command. `cargo xtask test` gives each target some seconds (fuzz/README.md says how it works).\n\n",
    );
    writeln!(
        page,
        "One input may take {TIMEOUT_S} s of CPU time and the memory in the table; more counts as a failure. Edges are branches of tracer and its\n\
         libraries that were passed. `image`, `module`, `state`, `heap`, `followed` and part of `exits` change the real programs\n\
         of fuzz/bases, which their seeds only name. All runs of a target are of the commit beside them.\n"
    )?;
    page.push_str("| target | what it is fed | seeds | inputs | CPU minutes | edges | features | peak RSS, MiB | allowed | commit |\n");
    page.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for target in TARGETS {
        let (run, commit) = stats::kept(target.name);
        let (count, bytes) = seeds(&root.join("fuzz/seeds").join(target.name))?;
        writeln!(
            page,
            "| {} | {} | {count}, {:.1} KiB | {} | {:.1} | {} | {} | {} | {} | {} |",
            target.name,
            target.what,
            bytes as f64 / 1024.0,
            run.executions,
            run.cpu_s / 60.0,
            run.edges,
            run.features,
            run.peak_rss_mb,
            target.rss_mb,
            commit.as_deref().unwrap_or("not run"),
        )?;
    }
    let found = root.join("docs/fuzzing-found.md");
    page.push('\n');
    page.push_str(&std::fs::read_to_string(&found).with_context(|| format!("read {}", found.display()))?);
    let all = TARGETS.iter().any(|t| stats::kept(t.name).0.executions > 0);
    ensure!(all, "fuzz/runs.txt holds no run");
    std::fs::write(root.join("docs/fuzzing.md"), page).context("write docs/fuzzing.md")
}

/// How many, and how large together.
fn seeds(folder: &Path) -> Result<(usize, u64)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok((0, 0)) };
    let mut found = (0, 0);
    for entry in entries {
        found.0 += 1;
        found.1 += entry?.metadata()?.len();
    }
    Ok(found)
}
