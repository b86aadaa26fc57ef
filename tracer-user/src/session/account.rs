//! What tracing takes from the target, shared by the threads that spend it and the one that watches it. It decides nothing.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::clock;
use crate::{control::budget::May, record::facts::Overhead};

/// One session's account.
pub(super) struct Account {
    /// Processor time of readings, which wait for the target's locks as it waits for theirs.
    readings_ns: AtomicU64,
    following_ns: AtomicU64,
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
        Self {
            readings_ns: AtomicU64::new(0),
            following_ns: AtomicU64::new(0),
            told: Mutex::new(Told { overhead: None, may_read: May::All }),
        }
    }

    /// Runs a reading and books the processor time of this thread for it.
    pub(super) fn reading<R>(&self, read: impl FnOnce() -> R) -> R {
        book(&self.readings_ns, read)
    }

    /// The same for a look at followed objects, which have a share of their own.
    pub(super) fn following<R>(&self, look: impl FnOnce() -> R) -> R {
        book(&self.following_ns, look)
    }

    /// All readings so far, and all looks at followed objects.
    pub(super) fn spent(&self) -> (Duration, Duration) {
        let of = |ns: &AtomicU64| Duration::from_nanos(ns.load(Ordering::Relaxed));
        (of(&self.readings_ns), of(&self.following_ns))
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

fn book<R>(of: &AtomicU64, work: impl FnOnce() -> R) -> R {
    let began = clock::spent();
    let answer = work();
    of.fetch_add(nanos(clock::spent().saturating_sub(began)), Ordering::Relaxed);
    answer
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
