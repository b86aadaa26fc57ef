//! Estimates from sampled allocations against what they estimate, over many seeds.
//!
//! The recording `followed` holds every allocation of a session of a real program, with its fate. Each seed samples it again
//! with the code that the kernel side decides by, and everything behind it is what a session runs: ledger and rows. So the
//! errors that reports state are compared with the errors there are. With `TRACER_ACCURACY` set, what came of it is added to
//! that file, from which `cargo xtask accuracy` makes a page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{Cursor, Write as _};
use std::path::Path;

use tracer_common::sample;
use tracer_user::aggregate::Ledger;
use tracer_user::capture::{self, Item};
use tracer_user::record::samples::{Fates, SampleKey};
use tracer_user::record::{Body, Event, Note, Reading, Readout, Record, Slot};
use tracer_user::sampling::Total;
use tracer_user::symbolize::profile::{HeapProfile, SiteAmounts};
use tracer_user::symbolize::{Frame, Names, PcKind, Symbolizer, TypeInfo};
use tracer_user::units::ProcAddr;

const SEEDS: u64 = 200;
const MEANS: [u64; 3] = [256, 1024, 4096];
/// A site is judged where that many samples of it are expected: with fewer, the error is as uncertain as the estimate.
const LEAST: f64 = 30.0;

/// Addresses stand for names: each stack is a site.
struct Nameless;

impl Names for Nameless {
    fn frames(&self, _: ProcAddr, _: PcKind) -> Vec<Frame> {
        Vec::new()
    }
    fn type_info(&self, _: ProcAddr) -> Option<TypeInfo> {
        None
    }
    fn module(&self) -> Option<String> {
        None
    }
}

/// Those of the recording that samples are made of.
fn records() -> Vec<Record> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures/followed.trc");
    let mut records = Vec::new();
    capture::read(Cursor::new(fs::read(file).unwrap()), |item| {
        let Item::Record(record) = item else { return };
        let of_samples = match &record.body {
            Body::Event(_) | Body::Note(Note::Sampling { .. }) => true,
            Body::Reading(reading) => {
                matches!(reading.readout, Readout::Fates(_) | Readout::SizeClasses(_))
            }
            Body::Note(_) => false,
        };
        if of_samples {
            records.push(record);
        }
    })
    .unwrap();
    records
}

/// splitmix64 (Steele, Lea, Flood 2014).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

/// The same session, had it been sampled so: what was not taken never came.
fn sampled(records: &[Record], mean: u64, seed: u64) -> HeapProfile {
    let mut random = Seeded(seed);
    let mut left = sample::distance(mean, random.next());
    let mut taken: BTreeSet<SampleKey> = BTreeSet::new();
    let mut ledger = Ledger::new(Slot(0), records[0].time);
    for record in records {
        match &record.body {
            Body::Note(Note::Sampling { .. }) => {
                ledger.apply(Record { body: Body::Note(Note::Sampling { mean }), ..record.clone() });
            }
            Body::Event(Event::Sample(object)) => {
                if sample::hits(left, object.size.0) {
                    left = sample::distance(mean, random.next());
                    taken.insert(SampleKey { address: object.address, at: record.time });
                    ledger.apply(record.clone());
                } else {
                    left -= object.size.0 as i64;
                }
            }
            Body::Reading(Reading { readout: Readout::Fates(fates), from, gc_cycle }) => {
                let only = |keys: &[SampleKey]| keys.iter().copied().filter(|k| taken.contains(k)).collect();
                let readout = Readout::Fates(Fates {
                    survived: only(&fates.survived),
                    died: only(&fates.died),
                    unknown: only(&fates.unknown),
                    ..fates.clone()
                });
                let body = Body::Reading(Reading { from: *from, gc_cycle: *gc_cycle, readout });
                ledger.apply(Record { body, ..record.clone() });
            }
            _ => ledger.apply(record.clone()),
        }
    }
    Symbolizer::new().evidence(&ledger, &Nameless).profile.expect("the session sampled")
}

/// Objects by site, of one of the figures.
fn by_site(profile: &HeapProfile, figure: fn(&SiteAmounts) -> Total) -> BTreeMap<&str, Total> {
    let mut sites: BTreeMap<&str, Total> = BTreeMap::new();
    for site in &profile.sites {
        sites.entry(&site.id).or_default().add(figure(&site.amounts));
    }
    sites
}

/// The spread of what was found, in the errors that were stated, and those errors beside the theory's.
struct Scores {
    z: Vec<f64>,
    /// For each site, stated errors by the true one, over the seeds.
    ratios: BTreeMap<String, Vec<f64>>,
}

impl Scores {
    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn z(&self) -> (f64, f64) {
        let mean = Self::mean(&self.z);
        let squares: Vec<f64> = self.z.iter().map(|z| (z - mean).powi(2)).collect();
        (mean, Self::mean(&squares).sqrt())
    }

    fn largest_ratio(&self) -> f64 {
        self.ratios.values().map(|r| Self::mean(r)).fold(0.0, f64::max)
    }
}

#[test]
fn stated_errors_are_the_errors_there_are() {
    let records = records();
    let truth = sampled(&records, 1, 0);
    let objects = truth.total.allocated.objects.value;
    assert!(objects > 10_000.0 && truth.total.unknown.objects.value == 0.0, "{:?}", truth.total);
    let live: fn(&SiteAmounts) -> Total = |a| a.live.objects;
    let allocated: fn(&SiteAmounts) -> Total = |a| a.allocated.objects;
    // What each site asked for by each object, where that is always the same.
    let frames = |stack: &[u32]| -> Vec<Frame> {
        stack.iter().map(|place| truth.places[*place as usize].frame.clone()).collect()
    };
    let mut asked: BTreeMap<Vec<Frame>, BTreeSet<u64>> = BTreeMap::new();
    for sample in truth.samples.iter() {
        asked.entry(frames(&sample.stack)).or_default().insert(sample.chosen_by);
    }
    let size = |stack: &[Frame]| asked.get(stack).filter(|s| s.len() == 1).and_then(BTreeSet::first);
    let sizes: BTreeMap<&str, f64> =
        truth.sites.iter().filter_map(|s| Some((s.id.as_str(), *size(&s.stack)? as f64))).collect();
    for (name, figure) in [("live", live), ("allocated", allocated)] {
        let exact = by_site(&truth, figure);
        for mean in MEANS {
            let mut scores = Scores { z: Vec::new(), ratios: BTreeMap::new() };
            let mut sites = BTreeSet::new();
            for seed in 1..=SEEDS {
                let profile = sampled(&records, mean, seed);
                let found = by_site(&profile, figure);
                for (site, there) in &exact {
                    let Some(size) = sizes.get(site) else { continue };
                    let taken = -(-size / mean as f64).exp_m1();
                    if there.value * taken < LEAST || there.value * (1.0 - taken) < LEAST {
                        continue;
                    }
                    sites.insert(*site);
                    let estimate = found.get(site).copied().unwrap_or_default();
                    let theory = (there.value * (1.0 - taken) / taken).sqrt();
                    scores.z.push((estimate.value - there.value) / estimate.standard_error());
                    let ratio = estimate.standard_error() / theory;
                    scores.ratios.entry((*site).to_owned()).or_default().push(ratio);
                }
            }
            let ((z_mean, z_sd), ratio) = (scores.z(), scores.largest_ratio());
            assert!(sites.len() >= 2, "{name} {mean}: {} sites", sites.len());
            tell(&format!(
                "replayed\t{name}\t{mean}\t{SEEDS}\t{}\t{}\t{z_mean:+.3}\t{z_sd:.3}\t{ratio:.3}\n",
                sites.len(),
                scores.z.len()
            ));
            let figures =
                format!("{name}, mean {mean}: z {z_mean:.3} sd {z_sd:.3}, errors {ratio:.3} x theory");
            assert!(z_mean.abs() <= 0.2 && (0.85..=1.15).contains(&z_sd) && ratio <= 1.3, "{figures}");
        }
    }
}

/// Adds a line to the page's figures, where one is being made.
fn tell(line: &str) {
    let Some(path) = std::env::var_os("TRACER_ACCURACY") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}
