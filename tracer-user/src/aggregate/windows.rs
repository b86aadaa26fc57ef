//! Moments in which the allocator was probed to see who allocates: how many, how long in all. This file judges nothing.

/// All of them together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Windows {
    pub opened: u64,
    pub open_us: u64,
}

impl Windows {
    pub(super) fn add(&mut self, open_us: u64) {
        self.opened += u64::from(open_us > 0);
        self.open_us = self.open_us.saturating_add(open_us);
    }
}
