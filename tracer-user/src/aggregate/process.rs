//! The process as /proc showed it over time. Judges nothing.

use super::series::Series;
use crate::record::reading::Process;
use crate::units::KTime;

/// Points kept.
pub const MAX_POINTS: usize = 512;

/// The process at each reading.
#[derive(Clone, PartialEq, Debug)]
pub struct ProcessHistory {
    points: Series<(KTime, Process)>,
    peak: Option<(KTime, Process)>,
}

impl Default for ProcessHistory {
    fn default() -> Self {
        Self { points: Series::new(MAX_POINTS), peak: None }
    }
}

impl ProcessHistory {
    pub(super) fn apply(&mut self, time: KTime, process: &Process) {
        if self.peak.as_ref().is_none_or(|(_, peak)| process.rss > peak.rss) {
            self.peak = Some((time, process.clone()));
        }
        self.points.push((time, process.clone()));
    }

    pub fn points(&self) -> &Series<(KTime, Process)> {
        &self.points
    }
    /// The reading with the highest RSS, whatever the series dropped.
    pub fn peak(&self) -> Option<&(KTime, Process)> {
        self.peak.as_ref()
    }
}
