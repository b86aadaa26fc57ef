//! Stated standard errors against the errors there are.
//!
//! Everything behind the decision what is sampled is what a session runs: ledger and rows.

use std::collections::{BTreeMap, BTreeSet};

use tracer_user::sampling::Total;
use tracer_user::symbolize::Frame;
use tracer_user::symbolize::profile::{HeapProfile, SiteAmounts};

use super::replay::{records, sampled};
use super::tell;

const SEEDS: u64 = 200;
const MEANS: [u64; 3] = [256, 1024, 4096];
/// A site is judged where that many samples of it are expected: with fewer, the error is as uncertain as the estimate.
const LEAST: f64 = 30.0;

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
