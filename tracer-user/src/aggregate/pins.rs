//! Calls in the program's code that were probed under way, and since when. This file judges nothing.

use crate::record::note::PinnedCall;
use crate::record::samples::chosen_by;
use crate::units::KTime;

/// Calls that are kept: each has a probe.
const MAX_CALLS: usize = 256;
/// Means of one call that are kept: each time it is another, a part of what was left of the table of followed objects is used.
const MAX_MEANS: usize = 128;

/// A call, and since when it is probed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    pub since: KTime,
    /// Absent while it is probed.
    pub until: Option<KTime>,
    /// With the mean that it has now.
    pub call: PinnedCall,
    /// All that it had.
    means: Vec<u64>,
}

/// All that were pinned.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Pins {
    pins: Vec<Pin>,
}

impl Pins {
    pub(super) fn add(&mut self, since: KTime, calls: &[PinnedCall]) {
        for call in calls {
            let all = self.pins.len();
            match self.pins.iter_mut().find(|pin| pin.call.probe == call.probe) {
                Some(pin) if pin.means.len() < MAX_MEANS => {
                    pin.call.mean = call.mean;
                    pin.means.push(call.mean);
                }
                None if all < MAX_CALLS => {
                    self.pins.push(Pin { since, until: None, call: *call, means: vec![call.mean] });
                }
                // A recording may say what it likes.
                _ => {}
            }
        }
    }

    pub(super) fn end(&mut self, at: KTime, probes: &[u32]) {
        for pin in self.pins.iter_mut().filter(|pin| probes.contains(&pin.call.probe)) {
            pin.until.get_or_insert(at);
        }
    }

    pub fn all(&self) -> &[Pin] {
        &self.pins
    }

    /// Mean calls between two whose objects are followed, by what chose them; absent where none is, or that is not known.
    pub fn mean(&self, chooser: u32) -> Option<u64> {
        let (probe, era) = chosen_by(chooser);
        let pin = self.pins.iter().find(|pin| pin.call.probe == probe)?;
        pin.means.get(era).copied().filter(|mean| *mean > 0)
    }

    /// The largest mean; absent where nothing is followed.
    pub fn largest_mean(&self) -> Option<u64> {
        self.pins.iter().flat_map(|pin| &pin.means).copied().filter(|mean| *mean > 0).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::call_sites::CallSite;
    use crate::units::ProcAddr;

    #[test]
    fn each_sample_is_weighed_by_the_mean_it_was_taken_with() {
        let site = CallSite { returns_to: ProcAddr(5), callee: ProcAddr(9) };
        let chooser = |probe: u32, era: u32| probe | era << 16;
        let call = |probe, mean| PinnedCall { type_addr: None, site, mean, probe };
        let mut pins = Pins::default();
        pins.add(KTime(1), &[call(3, 1), call(4, 0)]);
        pins.add(KTime(7), &[call(3, 8)]);
        assert_eq!((pins.mean(chooser(3, 0)), pins.mean(chooser(3, 1))), (Some(1), Some(8)));
        // Not told yet, counted only, never pinned, and what is grouped without its call.
        let others = [chooser(3, 2), chooser(4, 0), chooser(5, 0), u32::MAX];
        assert!(others.into_iter().all(|of| pins.mean(of).is_none()));
        assert_eq!((pins.all().len(), pins.all()[0].since, pins.largest_mean()), (2, KTime(1), Some(8)));
        (0..200).for_each(|mean| pins.add(KTime(9), &[call(3, 10 + mean)]));
        assert_eq!(pins.all()[0].means.len(), MAX_MEANS);
    }
}
