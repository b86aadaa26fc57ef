//! The recording `followed` as it would be, had its session sampled otherwise.
//!
//! It holds every allocation of a session of a real program, with its fate. A seed samples it again with the code that the
//! kernel side decides by.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use tracer_common::sample;
use tracer_user::aggregate::Ledger;
use tracer_user::capture::{self, Item};
use tracer_user::record::samples::{Fates, SampleKey};
use tracer_user::record::{Body, Event, Note, Reading, Readout, Record, Slot};
use tracer_user::symbolize::profile::HeapProfile;
use tracer_user::symbolize::{Frame, Names, PcKind, Symbolizer, TypeInfo};
use tracer_user::units::ProcAddr;

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
pub(crate) fn records() -> Vec<Record> {
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
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

/// The same session, had it been sampled so: what was not taken never came.
pub(crate) fn sampled(records: &[Record], mean: u64, seed: u64) -> HeapProfile {
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
