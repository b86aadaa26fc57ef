//! The runtime's memory profile over time: the newest reading, which holds everything since the process started.
//!
//! Keeps one reading (its size is bounded where it is made) and what a change of the sampling rate says.

use crate::record::profile::Profile;
use crate::units::KTime;

/// What is known of the runtime's own profile.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProfileHistory {
    newest: Option<(KTime, Profile)>,
    first_rate: Option<u64>,
    /// Readings that left buckets out.
    cut: u64,
}

impl ProfileHistory {
    pub(super) fn apply(&mut self, time: KTime, profile: &Profile) {
        self.first_rate.get_or_insert(profile.rate);
        self.cut = self.cut.saturating_add(u64::from(profile.cut));
        self.newest = Some((time, profile.clone()));
    }

    pub fn newest(&self) -> Option<(KTime, &Profile)> {
        self.newest.as_ref().map(|(time, profile)| (*time, profile))
    }

    /// The rate at the first reading, where the newest has another: older samples were taken at it.
    pub fn former_rate(&self) -> Option<u64> {
        let (_, newest) = self.newest()?;
        self.first_rate.filter(|first| *first != newest.rate)
    }

    pub(super) fn cut(&self) -> u64 {
        self.cut
    }
}
