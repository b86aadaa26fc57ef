//! How often the 95 % interval of a figure holds what there is: over seeds, by how many samples are expected.
//!
//! Populations are the recording's own sites, and made-up ones of one size and of several. What is sampled is decided by what the
//! kernel side runs, and the intervals are those that reports print; ledger and rows, between the two, are here for a few
//! seeds only, as `errors` has them for all of its own. Only what a report has a row for is judged: a site of which nothing
//! was sampled has none. So is, of the others, the interval of live or freed objects where none of these was sampled.

use std::collections::{BTreeMap, BTreeSet};

use tracer_common::sample;
use tracer_user::record::samples::SampleKey;
use tracer_user::record::{Body, Event, Reading, Readout, Record};
use tracer_user::sampling::{ByBytes, Interval, Total};
use tracer_user::symbolize::profile::SiteAmounts;

use super::replay::{Seeded, records, sampled};
use super::tell;

/// Of every population, and of the recording for each range of means.
const SEEDS: u64 = 2_000;
/// Samples expected, from this on.
const BANDS: [f64; 7] = [1.0, 2.0, 5.0, 10.0, 30.0, 100.0, 300.0];
const Z95: f64 = 1.959_963_984_540_054;

/// Of a site: all of its objects, those that live and those that died, by what they asked for.
#[derive(Clone, Debug, Default)]
struct Site {
    figures: [BTreeMap<u64, u64>; 3],
}

const ALLOCATED: usize = 0;
const LIVE: usize = 1;
const FREED: usize = 2;

impl Site {
    fn add(&mut self, size: u64, fate: Option<usize>) {
        for figure in [Some(ALLOCATED), fate].into_iter().flatten() {
            *self.figures[figure].entry(size).or_default() += 1;
        }
    }

    /// In objects and in bytes, as a report scales what was sampled.
    fn totals(&self, figure: usize, design: ByBytes) -> [Total; 2] {
        let mut totals = [Total::default(); 2];
        for size in self.figures[ALLOCATED].keys() {
            let objects = design.objects(self.figures[figure].get(size).copied().unwrap_or(0), *size);
            totals[0].add(objects);
            totals[1].add(objects.times(*size as f64));
        }
        totals
    }

    /// What there is: objects of the sizes that are in the sample, and the bytes of all.
    fn truth(&self, figure: usize, sampled: &Self) -> [f64; 2] {
        let all = || self.figures[figure].iter();
        let known = |size| sampled.figures[ALLOCATED].contains_key(size);
        let objects: u64 = all().filter(|(size, _)| known(*size)).map(|(_, n)| n).sum();
        let bytes: u64 = all().map(|(size, n)| size * n).sum();
        [objects as f64, bytes as f64]
    }

    /// How many of it are expected in a sample, and how many not.
    fn expected(&self, figure: usize, design: ByBytes) -> (f64, f64) {
        self.figures[figure].iter().fold((0.0, 0.0), |(seen, unseen), (size, n)| {
            let (n, taken) = (*n as f64, design.inclusion(*size));
            (seen + n * taken, unseen + n * (1.0 - taken))
        })
    }
}

/// How many intervals held the truth.
#[derive(Clone, Copy, Default, Debug)]
struct Held {
    of: u32,
    objects: u32,
    bytes: u32,
    /// What plus and minus 1.96 standard errors would have held, in bytes.
    normal: u32,
}

impl Held {
    fn percent(self, n: u32) -> f64 {
        100.0 * f64::from(n) / f64::from(self.of)
    }
}

/// By the number of the band.
#[derive(Default, Debug)]
struct Coverage {
    bands: BTreeMap<usize, Held>,
    /// Half of the widest interval, by 1.96 sqrt(rate / bytes) of what there is, where a hundred samples are expected; and
    /// by the same of the estimate, where there are two samples.
    widest: f64,
    widest_by_estimate: f64,
}

impl Coverage {
    fn judge(&mut self, there: &Site, found: &Site, design: ByBytes) {
        if found.figures[ALLOCATED].is_empty() {
            return;
        }
        for figure in [ALLOCATED, LIVE, FREED] {
            let (seen, unseen) = there.expected(figure, design);
            // Where nearly every object is in the sample there is little to be wrong about: `large` has these.
            let Some(band) = BANDS.iter().rposition(|from| seen >= *from).filter(|_| unseen >= 3.0) else {
                continue;
            };
            let totals = found.totals(figure, design);
            let truth = there.truth(figure, found);
            let [objects, bytes] = totals.map(Total::interval);
            let normal = Z95 * totals[1].standard_error();
            let held = self.bands.entry(band).or_default();
            held.of += 1;
            held.objects += u32::from(holds(objects, truth[0]));
            held.bytes += u32::from(holds(bytes, truth[1]));
            held.normal += u32::from((totals[1].value - truth[1]).abs() <= normal);
            let half = (bytes.high - bytes.low) / 2.0;
            let by = |total: f64| half / total / (Z95 * (design.mean as f64 / total).sqrt());
            if seen >= 100.0 {
                self.widest = self.widest.max(by(truth[1]));
            }
            if found.figures[figure].values().sum::<u64>() >= 2 {
                self.widest_by_estimate = self.widest_by_estimate.max(by(totals[1].value));
            }
        }
    }

    /// Each band has many intervals, and between 93 and 97 % of them hold, give or take two standard errors of as many as there are
    /// seeds: those of one seed hang together. Up to 98 where less than two samples are
    /// expected, as no tail of counts so small has 2.5 %; 92 to 98 of objects of several sizes, which are not a count of
    /// one weight.
    fn assert(&self, what: &str, bands: usize, several: bool) {
        let mut said = String::new();
        for (band, held) in &self.bands {
            let [objects, bytes, normal] = [held.objects, held.bytes, held.normal].map(|n| held.percent(n));
            let from = BANDS[*band];
            let to = BANDS.get(band + 1).map_or("1000".to_owned(), ToString::to_string);
            let row = format!("{what}\t{from} to {to}\t{}\t{bytes:.1}\t{objects:.1}\t{normal:.1}\n", held.of);
            tell(&format!("coverage\t{row}"));
            said.push_str(&row);
        }
        assert_eq!(self.bands.len(), bands, "{said}");
        let error = 200.0 * (0.97_f64 * 0.03 / SEEDS as f64).sqrt();
        for (band, held) in &self.bands {
            let wanted = 93.0 - error..=if BANDS[*band] < 2.0 { 98.0 } else { 97.0 } + error;
            let of_objects = if several { 92.0..=98.0 } else { wanted.clone() };
            assert!(u64::from(held.of) >= SEEDS, "{said}");
            assert!(wanted.contains(&held.percent(held.bytes)), "{said}");
            assert!(of_objects.contains(&held.percent(held.objects)), "{said}");
        }
        let Self { widest, widest_by_estimate, .. } = self;
        tell(&format!("widest\t{what}\t{widest_by_estimate:.2}\t{widest:.2}\n"));
        assert!(*widest <= 1.2 && *widest_by_estimate <= 1.2, "{what}: {widest} {widest_by_estimate}");
    }
}

fn holds(interval: Interval, truth: f64) -> bool {
    // Rounding in the last digits is no miss.
    let slack = 1e-9 * truth;
    (interval.low - slack..=interval.high + slack).contains(&truth)
}

/// An allocation of a stream.
struct Allocation {
    site: usize,
    size: u64,
    /// `LIVE` or `FREED`; nothing where it came after the last cycle that told of any.
    fate: Option<usize>,
}

/// Allocations in their order.
struct Stream {
    all: Vec<Allocation>,
    /// Of each, the bytes up to its end.
    ends: Vec<u64>,
    sites: usize,
}

impl Stream {
    fn new(all: Vec<Allocation>) -> Self {
        let ends = all.iter().scan(0, |end, of| {
            *end += of.size;
            Some(*end)
        });
        Self { ends: ends.collect(), sites: all.iter().map(|of| of.site + 1).max().unwrap_or(0), all }
    }

    /// That of the recording.
    fn recorded(records: &[Record]) -> Self {
        let (mut living, mut dead) = (BTreeSet::new(), BTreeSet::new());
        for record in records {
            if let Body::Reading(Reading { readout: Readout::Fates(fates), .. }) = &record.body {
                living.extend(fates.survived.iter().copied());
                dead.extend(fates.died.iter().copied());
            }
        }
        let mut sites = BTreeMap::new();
        let mut all = Vec::new();
        for record in records {
            let Body::Event(Event::Sample(object)) = &record.body else { continue };
            let key = SampleKey { address: object.address, at: record.time };
            let fate = if dead.contains(&key) { Some(FREED) } else { living.contains(&key).then_some(LIVE) };
            let next = sites.len();
            let site = *sites.entry(object.stack).or_insert(next);
            all.push(Allocation { site, size: object.size.0, fate });
        }
        Self::new(all)
    }

    /// One site of objects of these sizes, as often as said, of which two in five live.
    fn made_up(sizes: &[(u64, u32)], objects: u64, seed: u64) -> Self {
        let mut random = Seeded(seed);
        let all: u32 = sizes.iter().map(|(_, often)| often).sum();
        let allocation = |_| {
            let drawn = random.next();
            let mut place = drawn % all;
            let here = |(_, often): &&(u64, u32)| {
                let here = place < *often;
                place = place.wrapping_sub(*often);
                here
            };
            let (size, _) = *sizes.iter().find(here).expect("the shares add up");
            Allocation { site: 0, size, fate: Some(if (drawn >> 16) % 5 < 2 { LIVE } else { FREED }) }
        };
        Self::new((0..objects).map(allocation).collect())
    }

    fn there(&self) -> Vec<Site> {
        let mut sites = vec![Site::default(); self.sites];
        for Allocation { site, size, fate } in &self.all {
            sites[*site].add(*size, *fate);
        }
        sites
    }

    /// Every site as a sample has it. The allocation that a distance ends in is looked up instead of asking each whether
    /// it is hit, which comes to the same: `rows_of_a_report_have_these_intervals` has both.
    fn sampled(&self, mean: u64, seed: u64) -> Vec<Site> {
        let mut sites = vec![Site::default(); self.sites];
        let (mut random, mut from) = (Seeded(seed), 0);
        loop {
            let hit = from + sample::distance(mean, random.next()) as u64;
            let place = self.ends.partition_point(|end| *end < hit);
            let Some(Allocation { site, size, fate }) = self.all.get(place) else { return sites };
            sites[*site].add(*size, *fate);
            from = self.ends[place];
        }
    }
}

/// A number between two, evenly spread in its logarithm.
fn between(from: f64, to: f64, share: f64) -> f64 {
    from * (to / from).powf(share)
}

#[test]
fn intervals_of_replayed_sites_hold_what_there_is() {
    let stream = Stream::recorded(&records());
    let there = stream.there();
    assert!(stream.all.len() > 10_000 && there.len() >= 5, "{} {}", stream.all.len(), there.len());
    let mut coverage = Coverage::default();
    for (range, means) in [(64.0, 1024.0), (1024.0, 16_384.0), (16_384.0, 262_144.0)].into_iter().enumerate()
    {
        for seed in 1..=SEEDS {
            // A site's number is what it is: means of all sizes have any number of samples expected.
            let mean = between(means.0, means.1, seed as f64 / SEEDS as f64) as u64;
            let found = stream.sampled(mean, seed + SEEDS * range as u64);
            for (there, found) in there.iter().zip(&found) {
                coverage.judge(there, found, ByBytes { mean });
            }
        }
    }
    coverage.assert("recorded sites", BANDS.len(), false);
}

/// The short way from sample to interval here is the one that reports take.
#[test]
fn rows_of_a_report_have_these_intervals() {
    let records = records();
    let stream = Stream::recorded(&records);
    for (mean, seed) in [(512, 1), (4096, 2), (65_536, 3)] {
        let profile = sampled(&records, mean, seed);
        let found = stream.sampled(mean, seed);
        let found: Vec<&Site> = found.iter().filter(|s| !s.figures[ALLOCATED].is_empty()).collect();
        for (figure, of) in [
            (ALLOCATED, (|a| a.allocated.objects) as fn(&SiteAmounts) -> Total),
            (LIVE, |a| a.live.objects),
            (FREED, |a| a.freed.objects),
        ] {
            let ends = |total: Total| [total.value, total.interval().low, total.interval().high];
            let mut rows: Vec<[f64; 3]> = profile.sites.iter().map(|s| ends(of(&s.amounts))).collect();
            let mut short: Vec<[f64; 3]> =
                found.iter().map(|s| ends(s.totals(figure, ByBytes { mean })[0])).collect();
            for all in [&mut rows, &mut short] {
                all.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
            }
            assert!(rows.len() >= 3 && rows.len() == short.len(), "{rows:?} {short:?}");
            let off = |(a, b): (&f64, &f64)| (a - b).abs() / b.max(1.0);
            let off = rows.iter().flatten().zip(short.iter().flatten()).map(off).fold(0.0, f64::max);
            assert!(off < 1e-9, "{rows:?} {short:?}");
        }
    }
}

const MEAN: u64 = 16_384;
/// Populations of a kind, and the seeds that each is sampled by.
const POPULATIONS: u64 = 100;
const SEEDS_OF_EACH: u64 = 4 * SEEDS / POPULATIONS;

#[test]
fn intervals_of_made_up_sites_hold_what_there_is() {
    let design = ByBytes { mean: MEAN };
    for (what, sizes, bands, several) in [
        ("one small size", &[(256, 1)][..], BANDS.len(), false),
        ("several sizes", &[(64, 64), (256, 16), (1024, 4), (4096, 1)], BANDS.len(), true),
        ("one size, as large as the mean", &[(MEAN, 1)], BANDS.len() - 2, false),
    ] {
        let often: u32 = sizes.iter().map(|(_, often)| often).sum();
        let taken = |(size, often): &(u64, u32)| f64::from(*often) * design.inclusion(*size);
        let taken = sizes.iter().map(taken).sum::<f64>() / f64::from(often);
        let mut coverage = Coverage::default();
        for population in 0..POPULATIONS {
            let expected = between(1.0, 1000.0, population as f64 / (POPULATIONS - 1) as f64);
            let stream = Stream::made_up(sizes, (expected / taken).round() as u64, population);
            let there = stream.there();
            for seed in 0..SEEDS_OF_EACH {
                let found = stream.sampled(MEAN, seed * POPULATIONS + population + 1_000_000);
                coverage.judge(&there[0], &found[0], design);
            }
        }
        coverage.assert(what, bands, several);
    }
}

/// Objects much larger than the mean are nearly all in the sample: the interval is nearly a point, and holds.
#[test]
fn intervals_of_large_objects_are_narrow() {
    let (size, design) = (8 * MEAN, ByBytes { mean: MEAN });
    let (mut judged, mut held, mut points, mut widest) = (0, 0, 0, 0.0_f64);
    for seed in 1..=SEEDS {
        let stream = Stream::made_up(&[(size, 1)], 1 + seed % 50, seed);
        let (there, found) = (&stream.there()[0], &stream.sampled(MEAN, seed)[0]);
        let [objects, bytes] = found.totals(ALLOCATED, design).map(Total::interval);
        let [count, all] = there.truth(ALLOCATED, found);
        judged += 1;
        held += u64::from(holds(objects, count) && holds(bytes, all));
        points += u64::from(objects.high - objects.low < 0.5);
        widest = widest.max(objects.high - objects.low);
    }
    // One object in 3000 is missed.
    let figures = format!("{held} and {points} of {judged}, {widest}");
    assert!(held * 100 >= judged * 98 && points * 2 >= judged && widest <= 1.0, "{figures}");
}
