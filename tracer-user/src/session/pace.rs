//! How long threads leave the target's events and objects alone: what the follower needs, and what a window on the allocator needs.
//!
//! An object that is not followed before the next cycle ends is unknown for good. So what brings it there is as fast as cycles come,
//! and sleeps longer where nothing is followed.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use crate::kernel::ring::DRAIN_EVERY;

/// Shared by those who look and those who know how often they must.
pub(super) struct Pace {
    longest: Duration,
    /// What the follower needs, in nanoseconds.
    followed_ns: AtomicU64,
    /// A window is open, or about to be.
    hurry: AtomicBool,
}

impl Pace {
    /// `longest`: how long nobody looks where nothing is expected.
    pub(super) fn new(longest: Duration) -> Self {
        let followed_ns = AtomicU64::new(u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX));
        Self { longest, followed_ns, hurry: AtomicBool::new(false) }
    }

    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// How long the ring may be left alone.
    pub(super) fn pause(&self) -> Duration {
        let followed = Duration::from_nanos(self.followed_ns.load(Ordering::Relaxed));
        if self.hurries() { DRAIN_EVERY } else { followed.clamp(DRAIN_EVERY, self.longest) }
    }

    pub(super) fn hurries(&self) -> bool {
        self.hurry.load(Ordering::Relaxed)
    }

    pub(super) fn hurry(&self, now: bool) {
        self.hurry.store(now, Ordering::Relaxed);
    }

    /// Objects are followed that must be looked at so often.
    pub(super) fn follow_each(&self, pause: Duration) {
        let ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.followed_ns.store(ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_it_sooner_sets_the_pace() {
        let ms = Duration::from_millis;
        let pace = Pace::new(ms(20));
        assert_eq!(pace.pause(), ms(20));
        pace.follow_each(ms(5));
        assert_eq!(pace.pause(), ms(5));
        pace.hurry(true);
        assert_eq!(pace.pause(), DRAIN_EVERY);
        pace.hurry(false);
        pace.follow_each(ms(50));
        assert_eq!(pace.pause(), ms(20));
    }
}
