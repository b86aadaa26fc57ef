//! Quantiles of the sizes and ages of a site's objects in the model's words.

use super::model::{Ages, Sizes};
use crate::analyze::stats::quantiles;
use crate::symbolize::evidence::{AllocSite, Evidence};
use crate::symbolize::profile::ProfileSite;

/// Of what the runtime sampled.
pub(super) fn of_samples(site: &ProfileSite) -> Option<Sizes> {
    let found = quantiles(site.sizes.iter().copied())?;
    Some(Sizes { p50: found.p50, p90: found.p90, p99: found.p99, max: Some(found.max), of: "samples" })
}

/// Of what lives, where single objects are followed.
pub(super) fn ages(site: &ProfileSite) -> Option<Ages> {
    let found = quantiles(site.ages.iter().copied())?;
    let [p50, p90, p99, max] = [found.p50, found.p90, found.p99, found.max].map(|ms| ms as f64 / 1e3);
    Some(Ages { p50, p90, p99, max, samples: site.ages.len() as u64 })
}

/// Of what was counted: the kernel side keeps one sum per size class, so sizes are those of the classes.
pub(super) fn of_classes(site: &AllocSite, evidence: &Evidence) -> Option<Sizes> {
    let size_of = |class: u8| evidence.size_classes.iter().find(|c| c.class == class).and_then(|c| c.size);
    let sizes: Option<Vec<(u64, u64)>> = site
        .classes
        .iter()
        .filter(|(_, amount)| amount.objects > 0)
        .map(|(class, amount)| {
            let mean = || amount.rounded / amount.objects;
            let size = if *class == 0 { mean() } else { size_of(*class)? };
            Some((size, amount.objects))
        })
        .collect();
    let found = quantiles(sizes?)?;
    let largest_known = site.classes.get(&0).is_none_or(|large| large.objects <= 1);
    let max = largest_known.then_some(found.max);
    Some(Sizes { p50: found.p50, p90: found.p90, p99: found.p99, max, of: "size-classes" })
}
