//! Targets that do a countable amount of work and say what processor time it took. It knows no tool.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::target::{Fixture, told};

/// A target that works when it is asked.
pub(super) trait Works {
    fn target(&mut self) -> &mut Fixture;

    /// A while of work.
    fn work(&mut self) -> Result<Work>;

    /// More of it.
    fn work_for(&mut self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.work()?;
        }
        Ok(())
    }
}

/// What was done, by the target's own account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub(super) units: f64,
    pub(super) cpu_s: f64,
    /// How long the slowest in a hundred took, where each is timed.
    pub(super) p99_ns: Option<f64>,
}

impl Work {
    /// Processor time per unit.
    pub(super) fn each_s(&self) -> f64 {
        self.cpu_s / self.units
    }
}

/// The fixture `mill`.
#[derive(Debug)]
pub(super) struct Mill(pub(super) Fixture);

/// What the mill grinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Grist {
    /// Sixteen allocations a round.
    Allocations,
    /// Entries of maps that come, are found and go.
    Maps,
}

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    pub(super) rounds: f64,
    pub(super) mallocs: f64,
    pub(super) cpu_s: f64,
}

impl Mill {
    pub(super) fn start(program: &Path) -> Result<Self> {
        Ok(Self(Fixture::start(program)?))
    }

    /// `rounds` rounds on each of `workers` goroutines.
    pub(super) fn run(&mut self, grist: Grist, rounds: u64, workers: u32) -> Result<Ground> {
        let command = match grist {
            Grist::Allocations => "run",
            Grist::Maps => "maps",
        };
        let answer = self.0.ask(&format!("{command} {rounds} {workers}"))?;
        let ground = Ground {
            rounds: told(&answer, "rounds")?,
            mallocs: told(&answer, "mallocs")?,
            cpu_s: told(&answer, "cpu_s")?,
        };
        ensure!(ground.cpu_s > 0.0, "the mill took no time");
        Ok(ground)
    }
}

/// A mill on one goroutine. A while is as many runs as it takes; what it does between two is in no figure.
#[derive(Debug)]
pub(super) struct Grinds {
    pub(super) mill: Mill,
    pub(super) grist: Grist,
    pub(super) rounds: u64,
    pub(super) at_least: Duration,
}

impl Works for Grinds {
    fn target(&mut self) -> &mut Fixture {
        &mut self.mill.0
    }

    fn work(&mut self) -> Result<Work> {
        let begun = Instant::now();
        let mut work = Work::default();
        while work.units == 0.0 || begun.elapsed() < self.at_least {
            let ground = self.mill.run(self.grist, self.rounds, 1)?;
            work.units += ground.rounds;
            work.cpu_s += ground.cpu_s;
        }
        Ok(work)
    }
}

/// The fixture `http` and a load in a process of its own: a unit is an answered request.
#[derive(Debug)]
pub(super) struct Serves {
    server: Fixture,
    load: Fixture,
    pub(super) time: Duration,
}

/// How much a server is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    pub(super) connections: u32,
    /// Before a connection asks again.
    pub(super) pause_ms: u32,
}

impl Serves {
    pub(super) fn start(program: &Path, load: Load, time: Duration) -> Result<Self> {
        let mut server = Fixture::start(program)?;
        let state = server.ask("state")?;
        let address = state["address"].as_str().context("the server says where it is")?;
        let Load { connections, pause_ms } = load;
        let arguments = ["load", address, &connections.to_string(), &pause_ms.to_string()];
        let load = Fixture::start_with(program, &arguments)?;
        Ok(Self { server, load, time })
    }

    /// Requests answered so far, and processor time taken.
    fn state(&mut self) -> Result<(f64, f64)> {
        let state = self.server.ask("state")?;
        Ok((told(&state, "units")?, told(&state, "cpu_s")?))
    }
}

impl Works for Serves {
    fn target(&mut self) -> &mut Fixture {
        &mut self.server
    }

    fn work(&mut self) -> Result<Work> {
        self.load.ask("latency")?;
        let (served, took_s) = self.state()?;
        thread::sleep(self.time);
        let (units, cpu_s) = self.state()?;
        let p99_ns = told(&self.load.ask("latency")?, "p99")?;
        let (units, cpu_s) = (units - served, cpu_s - took_s);
        ensure!(units > 0.0 && p99_ns > 0.0, "the server answered nothing");
        Ok(Work { units, cpu_s, p99_ns: Some(p99_ns) })
    }
}
