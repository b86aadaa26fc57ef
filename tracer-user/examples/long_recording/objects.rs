//! The objects that a made session samples, and what becomes of them: each is told alive or dead once a cycle knows.

use std::collections::BTreeMap;

use tracer_user::record::Event;
use tracer_user::record::Sample;
use tracer_user::record::reading::AllocClass;
use tracer_user::record::samples::{Born, Fates, SampleKey};
use tracer_user::units::{Bytes, KTime, ProcAddr, StackId};

use super::Told;

/// Mean bytes between two samples.
pub(super) const MEAN: u64 = 512 << 10;
/// Distinct stacks: a session keeps 32 768.
const STACKS: u64 = 20_000;
/// Of ten stacks one allocates objects that may outlive a cycle: the ledger has histories of 4 096 groups.
const LASTING: u64 = 10;
const TYPES: u64 = 500;
/// Return addresses that stacks are made of.
const CALLS: u64 = 20_000;

/// A sequence that its seed alone decides (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 20
    }
}

/// All objects, by the cycle that finds them dead.
pub(super) struct Objects {
    numbers: Numbers,
    stacks: u64,
    /// Sampled since the last collection, with the cycles each lasts.
    fresh: Vec<(SampleKey, u64)>,
    dying: BTreeMap<u64, Vec<SampleKey>>,
    /// Told a little later.
    late: Fates,
    cycle: u64,
    samples: u64,
    live: u64,
    dead: u64,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            numbers: Numbers(1),
            stacks: 0,
            fresh: Vec::new(),
            dying: BTreeMap::new(),
            late: Fates::default(),
            cycle: 0,
            samples: 0,
            live: 0,
            dead: 0,
        }
    }
}

impl Objects {
    /// A sampled allocation, with its stack where that is new.
    pub(super) fn allocate(&mut self, time: u64) -> (Sample, Option<Event>) {
        self.samples += 1;
        let (site, stack) = if self.stacks < STACKS {
            self.stacks += 1;
            (self.stacks - 1, Some(self.stack(self.stacks - 1)))
        } else {
            // Few stacks allocate most.
            let part = (self.numbers.next() % (1 << 20)) as f64 / f64::from(1 << 20);
            ((part.powi(3) * STACKS as f64) as u64, None)
        };
        // A quarter of the stacks makes slices of four lengths.
        let long = if site % 4 == 0 { self.numbers.next() % 4 } else { 0 };
        let (class, size) = match site % 16 {
            15 => (AllocClass::Large, Bytes(40_960 * (1 + long))),
            n => (AllocClass::Small((n * 4 + 3 + long) as u8), Bytes(40 + 64 * n + 16 * long)),
        };
        // An address in use is not given out: each has a place of its own.
        let address = ProcAddr(0xc0_0000_0000 + self.samples % (1 << 24) * 8192);
        let sample = Sample {
            address,
            stack: id(site),
            type_addr: (site % 8 != 7).then_some(ProcAddr(0x50_0000 + site % TYPES * 64)),
            class,
            size,
            g: ProcAddr(0xc0_0000_2000 + site % 300 * 0x380),
            pin: None,
            born: Some(Born {
                generation: 2 * self.cycle as u32,
                marking: self.numbers.next().is_multiple_of(5),
            }),
        };
        let lasts = match (site % LASTING, self.numbers.next() % 1_000) {
            (3, 0..20) => u64::MAX,
            (3, 20..200) => 40 + self.numbers.next() % 400,
            (3, 200..600) => 1 + self.numbers.next() % 8,
            _ => 0,
        };
        self.fresh.push((SampleKey { address, at: KTime(time) }, lasts));
        (sample, stack)
    }

    fn stack(&mut self, site: u64) -> Event {
        let depth = 8 + self.numbers.next() % 17;
        let frames = (0..depth).map(|_| ProcAddr(0x40_1000 + self.numbers.next() % CALLS * 400)).collect();
        Event::Stack { id: id(site), frames, truncated: false }
    }

    /// What a cycle tells: who of the new ones lives, who of all died. One in eight is told a moment later.
    pub(super) fn collect(&mut self, cycle: u32) -> Fates {
        let generation = 2 * cycle + 2;
        self.cycle = u64::from(cycle) + 1;
        let mut now = Fates { cycle: generation, ..Fates::default() };
        let mut later = Fates { cycle: generation, ..Fates::default() };
        for (n, key) in self.dying.remove(&self.cycle).unwrap_or_default().into_iter().enumerate() {
            self.live -= 1;
            self.dead += 1;
            if n % 8 == 7 { later.died.push(key) } else { now.died.push(key) }
        }
        for (n, (key, lasts)) in std::mem::take(&mut self.fresh).into_iter().enumerate() {
            let told = if n % 8 == 7 { &mut later } else { &mut now };
            if lasts == 0 {
                self.dead += 1;
                told.died.push(key);
            } else {
                self.live += 1;
                told.survived.push(key);
                if let Some(end) = self.cycle.checked_add(lasts) {
                    self.dying.entry(end).or_default().push(key);
                }
            }
        }
        now.untold = (later.survived.len() + later.died.len()) as u64;
        self.late = later;
        now
    }

    /// What it could not tell at first.
    pub(super) fn rest(&mut self, _: u32) -> Fates {
        std::mem::take(&mut self.late)
    }

    pub(super) fn tell(&self, told: &mut Told) {
        told.stacks = self.stacks as usize;
        told.samples = self.samples;
        (told.live, told.dead, told.fresh) = (self.live, self.dead, self.fresh.len() as u64);
    }
}

fn id(site: u64) -> StackId {
    StackId((site + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
}
