//! What a target and its host notice while probes come and go: beats of the target, and processes that another program makes.
//!
//! Sessions of a third of a second with probes on the allocator, one after the other: each attaches and detaches as a session does, and as
//! a window on the allocator does, far more often than either comes in a session that is left running. Attaching takes a lock of the kernel for
//! writing that a fork takes for reading (kernel/events/uprobes.c, dup_mmap_sem).

use anyhow::{Context as _, Result, ensure};

use super::Effort;
use super::heart::{Beside, beside_it};
use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::target::Fixture;
use crate::fixtures::{self, Mode};
use crate::toolchains::Toolchain;

/// What the slowest of a thousand beats but one may be later by.
const LATER_US: f64 = 1_000.0;
/// Beats, and processes, of one toggle: one a millisecond.
const TIMES: u64 = 2_000;

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "heartbeat", Mode::Ordinary)?;
    let (mut target, mut other) = (Fixture::start(&program)?, Fixture::start(&program)?);
    let pid = target.pid();
    let toggles = [Beside::Probes { pid }, Beside::Null, Beside::Null];
    let mut dice = Dice::new(7);
    let (mut beats, mut forks) = (Seen::default(), Seen::default());
    for round in 1..=effort.comings {
        let mut order = [0, 1, 2];
        dice.shuffle(&mut order);
        let (mut of_beats, mut of_forks) = ([Slowest::default(); 3], [Slowest::default(); 3]);
        for toggle in order {
            of_beats[toggle] = slowest(&mut target, "beat", toggles[toggle])?;
            of_forks[toggle] = slowest(&mut other, "fork", toggles[toggle])?;
        }
        let [with, null, _] = of_beats;
        eprintln!(
            "probes come and go, round {round}: beats p99.9 {:.0} us, null {:.0} us; forks p99.9 {:.0} us, null {:.0} us",
            with.p999, null.p999, of_forks[0].p999, of_forks[1].p999
        );
        beats.add(of_beats);
        forks.add(of_forks);
    }
    let version = toolchain.pin.version;
    let micros = |x: f64| format!("{x:.0} us");
    let of = |what: &str| format!("Go {version}: p99.9 of {what}");
    for (what, seen, bound) in [
        ("the target's 1 kHz heartbeat", &beats, Some(LATER_US)),
        ("a fork in another process, 1 000 a second", &forks, None),
    ] {
        let worst = seen.with.iter().copied().fold(0.0, f64::max);
        rows.push(
            Row::of(format!("{} while probes come and go", of(what)), &Estimate::of(&seen.with), micros)
                .worst(micros(worst)),
        );
        let later = Estimate::of_differences(&seen.later);
        let row = Row::of(format!("{}: that less a null tool's", of(what)), &later, micros);
        rows.push(match bound {
            Some(most) => {
                let holds = later.high <= most;
                row.bounded(Bound { text: format!("<= {:.0} ms", most / 1e3), holds })
            }
            None => row,
        });
        let placebo = Estimate::of_differences(&seen.placebo);
        rows.push(Row::of(format!("{}: a second null tool less the first", of(what)), &placebo, micros));
        let longest = Estimate::of_differences(&seen.longest);
        rows.push(Row::of(
            format!("{}: the longest of a toggle, less a null tool's", of(what)),
            &longest,
            micros,
        ));
    }
    Ok(())
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Slowest {
    p999: f64,
    max: f64,
}

#[derive(Default)]
struct Seen {
    with: Vec<f64>,
    later: Vec<f64>,
    placebo: Vec<f64>,
    longest: Vec<f64>,
}

impl Seen {
    fn add(&mut self, [with, null, again]: [Slowest; 3]) {
        self.with.push(with.p999);
        self.later.push(with.p999 - null.p999);
        self.placebo.push(again.p999 - null.p999);
        self.longest.push(with.max - null.max);
    }
}

fn slowest(of: &mut Fixture, command: &str, beside: Beside) -> Result<Slowest> {
    let told = beside_it(beside, || of.ask(&format!("{command} {TIMES}")))?;
    ensure!(told["n"].as_u64() == Some(TIMES), "some are missing: {told}");
    let of = |name: &str| told[name].as_f64().filter(|ns| *ns > 0.0).context("it takes some time");
    Ok(Slowest { p999: of("p999")? / 1e3, max: of("max")? / 1e3 })
}
