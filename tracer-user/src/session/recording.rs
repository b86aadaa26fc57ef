//! The session's own recording, where one was asked for: every record that the ledger believes, and the bytes of the
//! image that its addresses will need to be named by.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{plugins::Plugins, target::Target};
use crate::{
    capture::{CaptureError, NewFile, Recorder},
    goruntime::{GoImage, modules::Module},
    memory::ReadAt as _,
    record::{Note, Record, Slot},
    units::{Bytes, ImageAddr, LoadBias, ProcAddr},
};

/// Bytes of the image read at once.
const PART: u64 = 256 << 10;
/// Types remembered as kept; beyond, all are kept again, which costs some bytes and nothing else.
const MAX_TYPES: usize = 65_536;
/// Bytes of plugins are handed on while less than this waits for the writer: half of what may wait.
const MOST_WAITING: usize = 8 << 20;
/// How long the end of a session waits for a slow disk.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// A recording under way.
pub(super) struct Recording {
    recorder: Recorder,
    image: Arc<GoImage>,
    bias: LoadBias,
    plugins: Arc<Plugins>,
    /// How many of them are in it, or on their way there.
    plugins_kept: usize,
    /// Bytes of plugins that wait for the writer: which one, and how much of it is done.
    waiting: VecDeque<(Arc<Module>, usize)>,
    types: HashSet<ProcAddr>,
    /// A loss that was told already, and whether the end of the recording was.
    told: u64,
    failed: bool,
}

impl Recording {
    pub(super) fn start(file: NewFile, target: &Target) -> Result<Self, CaptureError> {
        let (image, bias, plugins) = (&target.image, target.bias, Arc::clone(&target.plugins));
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
        Ok(Self {
            recorder,
            image: Arc::clone(image),
            bias,
            plugins,
            plugins_kept: 0,
            waiting: VecDeque::new(),
            types: HashSet::new(),
            told: 0,
            failed: false,
        })
    }

    pub(super) fn record(&mut self, record: &Record) {
        self.keep_plugins();
        let Self { recorder, image, bias, plugins, types, .. } = self;
        record.each_type(&mut |addr| {
            if types.len() >= MAX_TYPES {
                types.clear();
            }
            if types.insert(addr) {
                let at = bias.to_image(addr);
                let known = plugins.all();
                let plugin = known.iter().find(|module| module.data.types.contains(at));
                let pieces = plugin.map_or_else(|| image.type_pieces(at), |module| module.type_pieces(at));
                for (at, bytes) in pieces {
                    recorder.piece(at, &bytes);
                }
            }
        });
        recorder.record(record);
    }

    /// Says of plugins that were found since, and hands on their bytes as the writer takes them.
    fn keep_plugins(&mut self) {
        // Asked with every record: mostly there is none, or no other one.
        if self.plugins.len() > self.plugins_kept {
            for module in self.plugins.all().into_iter().skip(self.plugins_kept) {
                self.plugins_kept += 1;
                self.recorder.image(&module.image);
                self.waiting.push_back((module, 0));
            }
        }
        while self.recorder.waiting() < MOST_WAITING {
            let Some((module, done)) = self.waiting.pop_front() else { return };
            let mut parts = module.name_pieces().flat_map(|(start, bytes)| {
                let chunks = bytes.chunks(PART as usize).enumerate();
                chunks.map(move |(n, chunk)| (start.plus(n as u64 * PART), chunk))
            });
            let Some((at, bytes)) = parts.nth(done) else { continue };
            self.recorder.piece(at, bytes);
            drop(parts);
            self.waiting.push_front((module, done + 1));
        }
    }

    /// Called often.
    pub(super) fn tick(&mut self) {
        self.keep_plugins();
        self.recorder.tick();
    }

    pub(super) fn close(&mut self) {
        let until = Instant::now() + CLOSE_WITHIN;
        self.keep_plugins();
        while !self.waiting.is_empty() && Instant::now() < until && self.recorder.failure().is_none() {
            std::thread::sleep(Duration::from_millis(5));
            self.keep_plugins();
        }
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
