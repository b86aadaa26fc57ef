//! The drain thread: empties the ring every millisecond while much comes through it, decodes, hands batches to the loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, Instant},
};

use super::{clock, inbox::Wake, pace::Pace, placer::Placer};
use crate::{
    kernel::ring::{DRAIN_EVERY, Ring},
    record::{Record, decode},
};

/// Records handed over at once.
const BATCH: usize = 2048;
/// The loop is told of a drain at least this often even when it was empty, so that the fence opens.
const TELL_EVERY: Duration = Duration::from_millis(20);
/// Fewer records than this are no reason to come back soon.
const FEW: usize = 64;

/// A running drain thread.
pub(super) struct Drain {
    stop: Arc<AtomicBool>,
    undecodable: Arc<AtomicU64>,
    unplaced: Arc<AtomicU64>,
}

impl Drain {
    /// Where few records come the ring is left alone as long as `pace` allows: it has room for 50 000 samples.
    pub(super) fn start(
        mut ring: Ring,
        pace: Arc<Pace>,
        placer: Placer,
        mut each_tell: impl FnMut() + Send + 'static,
        inbox: SyncSender<Wake>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let undecodable = Arc::new(AtomicU64::new(0));
        let unplaced = Arc::clone(&placer.unplaced);
        let (stopped, bad) = (Arc::clone(&stop), Arc::clone(&undecodable));
        std::thread::Builder::new().name("drain".into()).spawn(move || {
            let (mut told, mut pause) = (Instant::now(), DRAIN_EVERY);
            loop {
                // Read before draining: what was sent before `stop` was set is still drained.
                let last = stopped.load(Ordering::Acquire);
                let began = clock::now();
                let mut records: Vec<Record> = Vec::new();
                ring.drain(|bytes| {
                    records.extend(record(bytes, &bad).and_then(|record| placer.complete(record)));
                });
                pause = if records.len() < FEW { (2 * pause).min(pace.pause()) } else { DRAIN_EVERY };
                if !records.is_empty() || told.elapsed() >= TELL_EVERY || last {
                    told = Instant::now();
                    each_tell();
                    let rest = records.split_off(records.len().min(BATCH));
                    for batch in std::iter::once(records).chain(rest.chunks(BATCH).map(<[Record]>::to_vec)) {
                        // A loop that is gone wants nothing more.
                        if inbox.send(Wake::Drained { began, records: batch }).is_err() {
                            return;
                        }
                    }
                }
                if last {
                    drop(inbox.send(Wake::DrainEnded));
                    return;
                }
                std::thread::sleep(pause);
            }
        })?;
        Ok(Self { stop, undecodable, unplaced })
    }

    /// Ring records that could not be decoded so far.
    pub(super) fn undecodable(&self) -> u64 {
        self.undecodable.load(Ordering::Relaxed)
    }

    /// Sampled objects whose size could not be read so far.
    pub(super) fn unplaced(&self) -> u64 {
        self.unplaced.load(Ordering::Relaxed)
    }

    /// Asks for one last drain, after which the thread says that it ends.
    pub(super) fn finish(&self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// What the ring had, where it is a record; else it is counted.
fn record(bytes: &[u8], undecodable: &AtomicU64) -> Option<Record> {
    let record = decode::decode(bytes);
    if record.is_none() {
        undecodable.fetch_add(1, Ordering::Relaxed);
    }
    record
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_counted() {
        let undecodable = AtomicU64::new(0);
        let stack = [1_u64, 77, 5, 0].map(u64::to_le_bytes).concat();
        assert!(record(&stack, &undecodable).is_some());
        for bytes in [&stack[..31], &[0; 72], &[]] {
            assert_eq!(record(bytes, &undecodable), None);
        }
        assert_eq!(undecodable.into_inner(), 3);
    }
}
