//! The session's own recording, where one was asked for: every record that the ledger believes, and the bytes of the
//! image that its addresses will need to be named by.

use std::{collections::HashSet, sync::Arc, time::Duration};

use crate::{
    capture::{CaptureError, NewFile, Recorder},
    goruntime::GoImage,
    memory::ReadAt as _,
    record::{Note, Record, Slot},
    units::{Bytes, ImageAddr, LoadBias, ProcAddr},
};

/// Bytes of the image read at once.
const PART: u64 = 256 << 10;
/// Types remembered as kept; beyond, all are kept again, which costs some bytes and nothing else.
const MAX_TYPES: usize = 65_536;
/// How long the end of a session waits for a slow disk.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// A recording under way.
pub(super) struct Recording {
    recorder: Recorder,
    image: Arc<GoImage>,
    bias: LoadBias,
    types: HashSet<ProcAddr>,
    /// A loss that was told already, and whether the end of the recording was.
    told: u64,
    failed: bool,
}

impl Recording {
    pub(super) fn start(file: NewFile, image: &Arc<GoImage>, bias: LoadBias) -> Result<Self, CaptureError> {
        let sections = image.name_sections();
        let source = Arc::clone(image);
        // Lazily: the writer's thread walks the tables, not the session's.
        let extents = std::iter::once(Arc::clone(image)).flat_map(|image| image.name_extents());
        let parts = extents.flat_map(move |extent| {
            let source = Arc::clone(&source);
            let starts = (extent.start.0..extent.end.0).step_by(PART as usize);
            starts.filter_map(move |start| {
                let len = (extent.end.0 - start).min(PART);
                // What cannot be read has no name, live or replayed.
                let bytes = source.memory().read_vec(ImageAddr(start), len as usize, Bytes(PART)).ok()?;
                Some((ImageAddr(start), bytes))
            })
        });
        let recorder = Recorder::start(file, Slot(0), &sections, parts)?;
        Ok(Self { recorder, image: Arc::clone(image), bias, types: HashSet::new(), told: 0, failed: false })
    }

    pub(super) fn record(&mut self, record: &Record) {
        let Self { recorder, image, bias, types, .. } = self;
        record.each_type(&mut |addr| {
            if types.len() >= MAX_TYPES {
                types.clear();
            }
            if types.insert(addr) {
                for (at, bytes) in image.type_pieces(bias.to_image(addr)) {
                    recorder.piece(at, &bytes);
                }
            }
        });
        recorder.record(record);
    }

    /// Called often.
    pub(super) fn tick(&mut self) {
        self.recorder.tick();
    }

    pub(super) fn close(&mut self) {
        self.recorder.close(CLOSE_WITHIN);
    }

    /// Why it ended before the session did, once.
    pub(super) fn newly_failed(&mut self) -> Option<String> {
        if self.failed {
            return None;
        }
        let why = self.recorder.failure()?;
        self.failed = true;
        Some(format!("the recording ends here: {why}; what was written stays readable, the session goes on"))
    }

    /// What is not in it, where that was not told yet.
    pub(super) fn newly_lost(&mut self) -> Option<Note> {
        let records = self.recorder.unrecorded();
        let failure = self.recorder.failure();
        if records <= self.told {
            return None;
        }
        self.told = records;
        let why = match failure {
            Some(why) => format!("the recording ends early: {why}"),
            None => "the recording lacks records that its writer could not take in time".to_owned(),
        };
        Some(Note::Unrecorded { records, why })
    }
}
