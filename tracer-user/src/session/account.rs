//! What the governor says of tracing's cost, for the threads that read and report. It decides nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{control::budget::May, record::facts::Overhead};

/// One session's account.
pub(super) struct Account {
    told: Mutex<Told>,
}

/// What the governor said last.
struct Told {
    overhead: Option<Overhead>,
    may_read: May,
}

impl Account {
    /// Nothing is spent, and readings may begin.
    pub(super) fn new() -> Self {
        Self { told: Mutex::new(Told { overhead: None, may_read: May::All }) }
    }

    /// Which of the longer readings that are due may begin.
    pub(super) fn may_read(&self) -> May {
        self.told().may_read
    }

    /// What a look came to.
    pub(super) fn tell(&self, overhead: Overhead, may_read: May) {
        *self.told() = Told { overhead: Some(overhead), may_read };
    }

    /// As of the last look; none before the first.
    pub(super) fn overhead(&self) -> Option<Overhead> {
        self.told().overhead.clone()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
