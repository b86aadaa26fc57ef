//! What the session said of itself: facts for a report's head, and what its recording lacks. Judges nothing.

use crate::record::Note;
use crate::record::facts::{Cost, Limit, Opening, Overhead, Subject};

/// The newest of each fact; absent until it was said.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SessionFacts {
    opening: Option<Opening>,
    subject: Option<Subject>,
    limit: Option<Limit>,
    cost: Option<Cost>,
    overhead: Option<Overhead>,
    /// Events that came through the ring buffer.
    pub(super) events: u64,
    /// Records that are not in the session's own recording.
    unrecorded: u64,
    /// Ways in which the recording this was read from lacks something.
    cut: u64,
}

impl SessionFacts {
    pub(super) fn apply(&mut self, note: &Note) {
        match note {
            Note::Opening(opening) => self.opening = Some(opening.as_ref().clone()),
            Note::Subject(subject) => self.subject = Some(subject.as_ref().clone()),
            Note::Limit(limit) => self.limit = *limit,
            Note::Cost(cost) => self.cost = Some(*cost),
            Note::Overhead(overhead) => self.overhead = Some(overhead.as_ref().clone()),
            Note::Unrecorded { records, .. } => self.unrecorded = self.unrecorded.max(*records),
            Note::RecordingCut { .. } => self.cut += 1,
            Note::Attached { .. }
            | Note::SiteRefused { .. }
            | Note::SiteNotTaken { .. }
            | Note::ReadingFailed { .. }
            | Note::Replaced { .. }
            | Note::Lost { .. }
            | Note::NewerGo { .. }
            | Note::Sampling { .. }
            | Note::Pinned { .. }
            | Note::Unpinned { .. }
            | Note::Window { .. }
            | Note::Throttled { .. }
            | Note::Resumed { .. }
            | Note::End(_) => {}
        }
    }

    pub fn opening(&self) -> Option<&Opening> {
        self.opening.as_ref()
    }
    pub fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }
    pub fn limit(&self) -> Option<Limit> {
        self.limit
    }
    pub fn cost(&self) -> Option<Cost> {
        self.cost
    }
    pub fn overhead(&self) -> Option<&Overhead> {
        self.overhead.as_ref()
    }
    /// Events that came through the ring buffer.
    pub fn events(&self) -> u64 {
        self.events
    }
    pub fn unrecorded(&self) -> u64 {
        self.unrecorded
    }
    pub fn cut(&self) -> u64 {
        self.cut
    }
}
