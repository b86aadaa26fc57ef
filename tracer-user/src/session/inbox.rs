//! What wakes the loop: one closed list, one bounded queue.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::{record::Record, units::KTime};

/// A wake-up of the loop.
pub(super) enum Wake {
    /// Ring records, from a drain that began at `began`.
    Drained {
        began: KTime,
        records: Vec<Record>,
    },
    /// The drain thread ends: no ring record follows.
    DrainEnded,
    /// Readings, finished before this was sent.
    Read(Vec<Record>),
    /// The readings asked for by a report that someone waits for.
    AskedRead(Vec<Record>),
    /// The readings asked for at the end of the session.
    LastRead(Vec<Record>),
    Signal(Signal),
    /// The target ended, or is no longer the process we opened.
    TargetGone,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGUSR1: an interim report.
    Report,
    /// The operator wants every tracer to let go.
    LetGo,
}

/// The queue's bound. A full inbox blocks the drain thread, so the ring fills and the kernel counts the loss:
/// nothing is lost unseen.
const BOUND: usize = 32;

pub(super) fn inbox() -> (SyncSender<Wake>, Receiver<Wake>) {
    sync_channel(BOUND)
}
