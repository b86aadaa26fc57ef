//! An account of the heap by samples, the runtime's own or ours, in the model's words.

use std::sync::Arc;

use super::build::{MAX_ALLOCATIONS, frames};
use super::model::{Allocated, Allocation, HeapProfile, HeapSamples, LiveObjects, LiveType};
use super::{growth, sizes};
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
        sample_bytes: rate,
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
    let error = |e: crate::sampling::Estimate| (rate > 1).then(|| e.standard_error());
    Allocated {
        bytes: amounts.bytes.value.round() as u64,
        bytes_stderr: error(amounts.bytes),
        objects: amounts.objects.value.round() as u64,
        objects_stderr: error(amounts.objects),
        requested_bytes: None,
    }
}
