//! What the live objects of the runtime's own memory profile are: for each bucket, the types of its objects, which the profile
//! itself does not know.
//!
//! Apart from `state/specials`, which finds the objects, and from `sample`, which reads what says their type. The lists of
//! specials are read behind the count of the spans and once more behind the objects: one counts only if it is in both, in the
//! span that was counted.
//! Of many sampled objects an even share is looked at; the record says of how many.

use std::collections::{BTreeMap, BTreeSet};

use super::census::{Counted, HeapShape};
use super::index::Known;
use super::picks::Pick;
use super::sample;
use super::typing::{self, Types};
use crate::goruntime::layout::Layout;
use crate::goruntime::state::profile::{self, BucketAddr, ProfileVars};
use crate::goruntime::state::specials::{self, SampledObject};
use crate::goruntime::state::{StateError, StateVars};
use crate::memory::ReadAt;
use crate::record::census::Candidate;
use crate::record::profile::{LiveRow, LiveSampled, Profile};
use crate::units::ProcAddr;

/// Objects looked at: a share of a site's objects is known to 1.6 % of them then (one standard error).
const MOST: usize = 1 << 10;

/// The profile of this moment and what its live objects are.
pub(super) fn read(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: (&StateVars, &ProfileVars),
    shape: HeapShape,
    counted: &Counted,
    types: &Types,
) -> Result<(Profile, LiveSampled), StateError> {
    let (state, profiler) = vars;
    let profile::Found { profile, addresses } =
        profile::read(memory, layout, profiler, profile::Limits::default())?;
    let specials::Found { objects, torn, swapped, cut } =
        specials::read(memory, layout, state, specials::Limits::default())?;
    let places: BTreeMap<BucketAddr, u32> = addresses.into_iter().zip(0..).collect();
    let step = objects.len().div_ceil(MOST).max(1);
    let mut live =
        LiveSampled { sampled: objects.len() as u64, torn, swapped, cut, ..LiveSampled::default() };
    let (mut picks, mut buckets) = (Vec::new(), Vec::new());
    for object in objects.into_iter().step_by(step) {
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
    let found = sample::of_picks(memory, layout, state, shape, counted, &picks)?;
    let mut rows: BTreeMap<(u32, bool, Vec<Candidate>), (u64, ProcAddr)> = BTreeMap::new();
    let candidates = typing::candidates(&found, types, layout);
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
