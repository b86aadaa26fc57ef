//! What the live objects of the runtime's own memory profile are: for each bucket, the types of its objects, which the profile
//! itself does not know.
//!
//! Apart from `state/specials`, which finds the objects, and from `sample`, which reads what says their type. The lists of
//! specials are read behind the count of the spans and once more behind the objects: one counts only if it is in both, in the
//! span that was counted.
//! Of many sampled objects an even share is looked at; the record says of how many.

use std::collections::{BTreeMap, BTreeSet};

use super::census::{Counted, HeapShape};
use super::fits::Fits;
use super::index::Known;
use super::picks::Pick;
use super::sample;
use super::typing;
use crate::goruntime::state::profile::{self, BucketAddr, ProfileVars};
use crate::goruntime::state::specials::{self, SampledObject};
use crate::goruntime::state::{StateError, StateVars};
use crate::memory::ReadAt;
use crate::record::census::Candidate;
use crate::record::profile::{LiveRow, LiveSampled, Profile};
use crate::units::ProcAddr;

/// Objects looked at: a share of all is known to 1.6 % then (one standard error), one of a site's objects less well.
const MOST: usize = 1 << 10;

/// The profile of this moment and what its live objects are.
pub(super) fn read(
    memory: &dyn ReadAt<ProcAddr>,
    vars: (&StateVars, &ProfileVars),
    shape: HeapShape,
    counted: &Counted,
    fits: &mut Fits<'_>,
) -> Result<(Profile, LiveSampled), StateError> {
    let ((state, profiler), layout) = (vars, fits.layout);
    let profile::Found { profile, addresses } =
        profile::read(memory, layout, profiler, profile::Limits::default())?;
    let specials::Found { objects, torn, swapped, cut } =
        specials::read(memory, layout, state, specials::Limits::default())?;
    let places: BTreeMap<BucketAddr, u32> = addresses.into_iter().zip(0..).collect();
    let mut live =
        LiveSampled { sampled: objects.len() as u64, torn, swapped, cut, ..LiveSampled::default() };
    let (mut picks, mut buckets) = (Vec::new(), Vec::new());
    for object in chosen(objects) {
        // A bucket that is newer than the profile, and a span that is another than was counted, are of the next reading.
        let same = |known: &Known| {
            (known.at, known.start, known.spanclass) == (object.span, object.start, object.spanclass)
        };
        let span = counted.spans.find(object.address.0).filter(same);
        let (Some(bucket), Some(span)) = (places.get(&object.bucket), span) else { continue };
        picks.push(Pick {
            addr: span.slot_of(object.address),
            at: span.at,
            start: span.start,
            pages: span.pages,
            sweepgen: counted.generation,
            spanclass: span.spanclass,
        });
        buckets.push((*bucket, object));
    }
    let found = sample::of_picks(memory, state, shape, counted, &picks, fits)?;
    let mut rows: BTreeMap<(u32, bool, Vec<Candidate>), (u64, ProcAddr)> = BTreeMap::new();
    let candidates = typing::candidates(&found, fits);
    // What was swept meanwhile may have made room for another object.
    let again = specials::read(memory, layout, state, specials::Limits::default())?;
    let still: BTreeSet<SampledObject> = again.objects.into_iter().collect();
    for ((bucket, object), candidates) in buckets.into_iter().zip(candidates) {
        if still.contains(&object) {
            live.looked_at += 1;
            let noscan = object.spanclass & 1 == 1;
            rows.entry((bucket, noscan, candidates)).or_insert((0, object.address)).0 += 1;
        }
    }
    let row = |((bucket, noscan, candidates), (objects, example))| LiveRow {
        bucket,
        noscan,
        candidates,
        objects,
        example,
    };
    live.rows = rows.into_iter().map(row).collect();
    Ok((profile, live))
}

/// At most [`MOST`] of them, whatever their order and however their addresses are spaced: every n-th object of a span may be
/// of one type.
fn chosen(mut objects: Vec<SampledObject>) -> Vec<SampledObject> {
    if objects.len() > MOST {
        objects.select_nth_unstable_by_key(MOST, |object| mixed(object.address.0));
        objects.truncate(MOST);
        // What lies together is read together.
        objects.sort_unstable();
    }
    objects
}

/// A number that nothing of the address is seen in (the finalizer of MurmurHash3, smhasher).
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_at_does_not_keep_step_with_addresses() {
        for (count, spacing) in [(1_784_u64, 48), (2_048, 64), (8_192, 16), (50_000, 1024)] {
            let object = |n: u64| SampledObject {
                address: ProcAddr(0xc00_0000 + n * spacing),
                span: ProcAddr(1),
                start: ProcAddr(0xc00_0000),
                spanclass: 2,
                bucket: BucketAddr(ProcAddr(8)),
            };
            let chosen = chosen((0..count).map(object).collect());
            assert_eq!(chosen.len(), MOST);
            // Two types by turns: four standard errors of an even share of 1024.
            let even = chosen.iter().filter(|o| (o.address.0 / spacing).is_multiple_of(2)).count();
            assert!(even.abs_diff(MOST / 2) <= 64, "{count} at {spacing}: {even}");
        }
        assert!(chosen(Vec::new()).is_empty());
    }
}
