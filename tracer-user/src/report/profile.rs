//! An account of the heap by samples, the runtime's own or ours, in the model's words.

use std::sync::Arc;

use super::build::{MAX_ALLOCATIONS, frames};
use super::model::{Allocated, Allocation, HeapProfile, HeapSamples, LiveObjects, LiveType};
use super::{growth, sizes};
use crate::sampling::Total;
use crate::symbolize::profile::{self, Amounts, ProfileSite, ProfileSource};

/// The rows, the largest first.
pub(super) fn allocations(profile: &profile::HeapProfile) -> Vec<Allocation> {
    profile.sites.iter().take(MAX_ALLOCATIONS).map(|site| allocation(site, profile)).collect()
}

fn allocation(site: &ProfileSite, profile: &profile::HeapProfile) -> Allocation {
    let profile::SiteAmounts { live, allocated, freed, since_gc, unknown } = site.amounts;
    let rate = profile.rate;
    Allocation {
        site: site.id.clone(),
        stack: frames(&site.stack),
        type_name: site.type_name.clone(),
        live_type: site.live_type.clone(),
        cause: site.cause.name().to_owned(),
        since: match profile.source {
            ProfileSource::Runtime => "start",
            ProfileSource::Samples => "attach",
            ProfileSource::Pins => "pinned",
        },
        live: Some(estimated(live, rate)),
        allocated: estimated(allocated, rate),
        freed: Some(estimated(freed, rate)),
        allocated_since_gc: Some(estimated(since_gc, rate)),
        unknown: some(unknown, rate),
        live_types: site.live_types.iter().map(live_type).collect(),
        samples: Some(site.samples),
        sizes: sizes::of_samples(site),
        ages: sizes::ages(site),
        growth: growth::of_site(&site.points),
        size_classes: Vec::new(),
        truncated: false,
    }
}

fn live_type(of: &profile::LiveType) -> LiveType {
    LiveType {
        types: of.candidates.clone(),
        no_pointers: of.noscan,
        objects: of.objects,
        example: format!("{:#x}", of.example),
    }
}

pub(super) fn heap_profile(profile: &profile::HeapProfile) -> HeapProfile {
    let profile::SiteAmounts { live, allocated, freed, since_gc, unknown } = profile.total;
    let rate = profile.rate;
    HeapProfile {
        source: match profile.source {
            ProfileSource::Runtime => "runtime",
            ProfileSource::Samples => "samples",
            ProfileSource::Pins => "pins",
        },
        sample_bytes: (profile.source != ProfileSource::Pins).then_some(rate),
        sample_calls: (profile.source == ProfileSource::Pins).then_some(rate),
        former_sample_bytes: profile.former_rate,
        t: profile.read_at_s,
        as_of: if profile.collected { "last-gc" } else { "now" },
        live: estimated(live, rate),
        allocated: estimated(allocated, rate),
        freed: estimated(freed, rate),
        allocated_since_gc: estimated(since_gc, rate),
        unknown: some(unknown, rate),
        live_objects: profile.live_look.map(|look| LiveObjects {
            t: look.read_at_s,
            found: look.found,
            looked_at: look.looked_at,
            spans_torn: look.spans_torn,
            spans_swapped: look.spans_swapped,
            cut: look.cut,
        }),
        samples: HeapSamples { samples: Arc::clone(&profile.samples), places: Arc::clone(&profile.places) },
    }
}

/// Absent where there is none.
fn some(amounts: Amounts, rate: u64) -> Option<Allocated> {
    (amounts.objects.value > 0.0).then(|| estimated(amounts, rate))
}

/// With a rate of 1 every allocation is in the sample: counted, without an error.
fn estimated(amounts: Amounts, rate: u64) -> Allocated {
    let Amounts { objects, bytes } = amounts;
    let error = |total: Total| (rate > 1).then(|| total.standard_error());
    let (of_objects, of_bytes) = amounts.intervals();
    let of_bytes = Some(of_bytes).filter(|_| rate > 1);
    let of_objects = Some(of_objects).filter(|_| rate > 1 && objects != Total::default());
    let whole = |end: f64| end.round() as u64;
    Allocated {
        bytes: whole(bytes.value),
        bytes_stderr: error(bytes),
        bytes_low: of_bytes.map(|of| whole(of.low)),
        bytes_high: of_bytes.map(|of| whole(of.high)),
        objects: whole(objects.value),
        objects_stderr: error(objects),
        objects_low: of_objects.map(|of| whole(of.low)),
        objects_high: of_objects.map(|of| whole(of.high)),
        requested_bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::ByBytes;

    fn of(n: u64, mean: u64) -> Allocated {
        let objects = ByBytes { mean }.objects(n, 48);
        estimated(Amounts { objects, bytes: objects.times(48.0) }, mean)
    }

    #[test]
    fn where_no_sample_lives_there_is_an_upper_end() {
        let none = of(0, 524_288);
        assert_eq!((none.objects, none.objects_stderr, none.objects_low), (0, Some(0.0), Some(0)));
        // -ln(0.05) samples, each of which stands for 524 288 / 48 objects.
        assert_eq!((none.objects_high, none.bytes_high), (Some(32_721), Some(32_721 * 48)));
        // Of a total, though no size is known.
        let bytes = ByBytes { mean: 524_288 }.unseen_bytes();
        let total = estimated(Amounts { objects: Total::default(), bytes }, 524_288);
        assert_eq!((total.bytes_high, total.objects_high), (Some(1_570_626), None));
    }

    #[test]
    fn what_was_counted_has_no_interval() {
        let all = of(7, 1);
        assert_eq!((all.objects, all.objects_stderr, all.objects_high, all.bytes_low), (7, None, None, None));
    }
}
