//! The process as /proc showed it over time. Judges nothing.

use super::series::Series;
use crate::record::reading::{Gc, Process};
use crate::units::{Bytes, KTime};

/// Points kept.
pub const MAX_POINTS: usize = 512;
/// GC figures older than this, in seconds, are of another round of readings than the process figures.
const SAME_ROUND_S: f64 = 0.5;

/// The process at each reading.
#[derive(Clone, PartialEq, Debug)]
pub struct ProcessHistory {
    points: Series<(KTime, Process)>,
    peak: Option<(KTime, Process)>,
    mapped_by_go: Option<Bytes>,
}

impl Default for ProcessHistory {
    fn default() -> Self {
        Self { points: Series::new(MAX_POINTS), peak: None, mapped_by_go: None }
    }
}

impl ProcessHistory {
    /// With the newest GC figures, which a round of readings takes first.
    pub(super) fn apply(&mut self, time: KTime, process: &Process, gc: Option<&(KTime, Gc)>) {
        self.mapped_by_go = gc
            .filter(|(read_at, _)| time.seconds_since(*read_at) <= SAME_ROUND_S)
            .map(|(_, gc)| gc.mapped_ready);
        if self.peak.as_ref().is_none_or(|(_, peak)| process.rss > peak.rss) {
            self.peak = Some((time, process.clone()));
        }
        self.points.push((time, process.clone()));
    }

    pub fn points(&self) -> &Series<(KTime, Process)> {
        &self.points
    }
    /// What Go's runtime had mapped and ready when the newest figures were read; absent where that is not known.
    pub fn mapped_by_go(&self) -> Option<Bytes> {
        self.mapped_by_go
    }
    /// The reading with the highest RSS, whatever the series dropped.
    pub fn peak(&self) -> Option<&(KTime, Process)> {
        self.peak.as_ref()
    }
}
