//! A session and two null tools beside a target that works: all three are there throughout, and all but one of them are stopped. The second
//! null tool shows what the instrument says of no difference at all.
//!
//! A session that begins anew for each toggle is all start. What tracer missed while it was stopped is due when it goes on, and a reading
//! that was stopped midway counts as a long one and is not due again for a while, so that what it reads is not what it reads alone. Its
//! probes stay where they are while it is stopped: toggles show what readings cost, not hits.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use super::statistics::{Dice, Estimate};
use super::tools::{Null, Tracer, send};
use super::work::{Work, Works};

/// What toggles gave: with tracer, or with a second null tool, and with the first null tool.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Processor time per unit, in seconds.
    pub(super) cpu: Vec<(f64, f64)>,
    pub(super) placebo: Vec<(f64, f64)>,
    /// The slowest unit in a hundred, in nanoseconds, where units are timed.
    pub(super) slow: Vec<(f64, f64)>,
}

/// Toggles of one session, which ends with them. Returns tracer's own share of a processor in its toggles.
pub(super) fn session(
    target: &mut impl Works,
    tracer: Tracer,
    toggles: usize,
    dice: &mut Dice,
    pairs: &mut Pairs,
) -> Result<f64> {
    let (null, again) = (Null::start()?, Null::start()?);
    let tools = [tracer.child(), null.child(), again.child()];
    for tool in tools {
        send(tool, Signal::STOP)?;
    }
    let (begun, mut on) = (tracer.child().cpu_s()?, Duration::ZERO);
    for _ in 0..toggles {
        let mut order = [0, 1, 2];
        dice.shuffle(&mut order);
        let mut done = [Work::default(); 3];
        for beside in order {
            let since = Instant::now();
            send(tools[beside], Signal::CONT)?;
            // A target may collect its garbage before it looks at the clock: what is due at once must not always fall into that.
            thread::sleep(Duration::from_millis(dice.below(100)));
            done[beside] = target.work()?;
            send(tools[beside], Signal::STOP)?;
            on += if beside == 0 { since.elapsed() } else { Duration::ZERO };
        }
        let [with, null, again] = done;
        pairs.cpu.push((with.each_s(), null.each_s()));
        pairs.placebo.push((again.each_s(), null.each_s()));
        pairs.slow.extend(with.p99_ns.zip(null.p99_ns));
    }
    let share = (tracer.child().cpu_s()? - begun) / on.as_secs_f64();
    for tool in tools {
        send(tool, Signal::CONT)?;
    }
    tracer.stop()?;
    null.stop()?;
    again.stop()?;
    Ok(share)
}

impl Pairs {
    /// Says how far it is.
    pub(super) fn tell(&self, what: &str) {
        let Estimate { mean, low, high, n } = Estimate::of_pairs(&self.cpu);
        let [mean, low, high] = [mean, low, high].map(|x| 100.0 * x);
        eprintln!("{what}, toggle {n}: {mean:+.2} % [{low:+.2}, {high:+.2}]");
    }
}
