//! The follower thread: looks at every sampled object once per GC cycle of the target.
//!
//! Apart from the reader, whose readings take turns: a cycle that nobody looked at leaves its objects unknown, so this
//! thread does nothing else. It only reads, and takes no more than its share of the time between two looks.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use super::{clock, inbox::Wake, pace::Pace, setup::Allowed, target::Target};
use crate::{
    control::budget::Bucket,
    goruntime::{
        heap::{
            census::HeapShape,
            followed::{Follower as Objects, generation},
        },
        state::StateError,
    },
    kernel::priority::wait_for_others,
    memory::FaultKind,
    record::{
        Body, Note, Reading, Readout, Record, Sample, Slot,
        samples::{Born, SampleKey},
    },
};

/// How often the target is asked whether a cycle ended, by one read of four bytes, at most: a busy program with a small heap makes
/// two hundred cycles a second.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Looks per cycle, by the shorter of the last two, where it may sleep for so long: only two cycles that end within one pause are
/// missed.
const LOOKS: u32 = 4;

/// Objects that wait for the thread; 32 bytes each.
const MAX_WAITING: usize = 65_536;

/// A running follower.
pub(super) struct Follower {
    objects: SyncSender<(SampleKey, Option<Born>)>,
}

impl Follower {
    pub(super) fn start(
        target: &Arc<Target>,
        allowed: Allowed,
        pace: Arc<Pace>,
        inbox: SyncSender<Wake>,
    ) -> std::io::Result<Self> {
        let (objects, new) = sync_channel(MAX_WAITING);
        let target = Arc::clone(target);
        std::thread::Builder::new().name("follower".into()).spawn(move || {
            wait_for_others();
            Watch::new(&target, allowed, pace).run(&new, &inbox);
        })?;
        Ok(Self { objects })
    }

    /// Follows the object of a sample; `false` where the thread is too far behind, or has ended.
    pub(super) fn follow(&self, key: SampleKey, sample: &Sample) -> bool {
        match self.objects.try_send((key, sample.born)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

struct Watch<'a> {
    target: &'a Target,
    /// What looking at objects may take of one processor.
    share: f64,
    pace: Arc<Pace>,
    shape: HeapShape,
    objects: Objects,
    /// Of which everything is told.
    generation: Option<u32>,
    /// The newest.
    seen: Option<u32>,
    /// When the last two cycles were seen to end.
    ended: [Instant; 2],
    /// Objects came, of which the last cycle may tell already.
    news: bool,
    /// Of which something is told.
    reported: Option<u32>,
    /// Processor time that it may take at once: cycles come in bursts, and one that is missed leaves objects unknown for good.
    credit: Bucket,
    paid: Instant,
    next: Instant,
    failed: bool,
}

impl<'a> Watch<'a> {
    fn new(target: &'a Target, allowed: Allowed, pace: Arc<Pace>) -> Self {
        let share = allowed.following();
        Self {
            target,
            share,
            pace,
            shape: HeapShape::of(&target.image),
            objects: Objects::default(),
            generation: None,
            seen: None,
            ended: [Instant::now(); 2],
            news: false,
            reported: None,
            credit: Bucket::full(share),
            paid: Instant::now(),
            next: Instant::now(),
            failed: false,
        }
    }

    fn run(mut self, new: &Receiver<(SampleKey, Option<Born>)>, inbox: &SyncSender<Wake>) {
        loop {
            let wait = self.next.saturating_duration_since(Instant::now()).max(self.pause());
            // Not woken for each of them: a wake-up costs more than a look.
            std::thread::sleep(wait);
            loop {
                match new.try_recv() {
                    Ok((key, born)) => {
                        self.objects.follow(key, born);
                        self.news = true;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            if self.objects.is_empty() {
                continue;
            }
            let began = clock::spent();
            let record = match self.look() {
                Ok(record) => record,
                Err(e) if is_gone(&e) => return,
                Err(e) => {
                    let note = Note::ReadingFailed { what: "sampled objects".into(), why: e.to_string() };
                    // Once in a row is enough to be told.
                    let told = std::mem::replace(&mut self.failed, true);
                    (!told).then(|| Record { slot: Slot(0), time: clock::now(), body: Body::Note(note) })
                }
            };
            self.pay(clock::spent().saturating_sub(began));
            if let Some(record) = record
                && inbox.send(Wake::Read(vec![record])).is_err()
            {
                return;
            }
        }
    }

    /// Takes a look's time off what has accrued, and says when the next one may be.
    fn pay(&mut self, spent: Duration) {
        let now = Instant::now();
        let accrued = now.duration_since(std::mem::replace(&mut self.paid, now)).as_secs_f64() * self.share;
        self.credit.fill(accrued);
        self.credit.spend(spent.as_secs_f64());
        self.next = now + Duration::from_secs_f64(self.credit.owed() / self.share);
    }

    /// How long the target is left alone: a part of its shortest cycle of late.
    fn pause(&self) -> Duration {
        let longest = self.pace.longest();
        if self.objects.is_empty() {
            self.pace.follow_each(longest);
            return if self.pace.hurries() { LOOK_EVERY } else { longest };
        }
        if self.pace.hurries() {
            return LOOK_EVERY;
        }
        let [before, last] = self.ended;
        let shortest = last.duration_since(before).min(last.elapsed());
        let pause = (shortest / LOOKS).clamp(LOOK_EVERY, longest);
        self.pace.follow_each(pause);
        pause
    }

    fn look(&mut self) -> Result<Option<Record>, StateError> {
        let memory = &self.target.memory;
        let now = generation(memory, &self.target.state)?;
        if self.generation == Some(now) && !self.news {
            return Ok(None);
        }
        if self.seen.replace(now) != Some(now) {
            self.ended = [self.ended[1], Instant::now()];
        }
        if !self.objects.has_due(now) {
            (self.generation, self.news) = (Some(now), false);
            return Ok(None);
        }
        // What was swapped out since the last look is left alone; the reader reports where this cannot be known.
        drop(memory.look_for_swap());
        let from = clock::now();
        let fates = self.objects.check(memory, &self.target.state, self.shape)?;
        (self.failed, self.news) = (false, false);
        let Some(fates) = fates else {
            return Ok(None);
        };
        // What could not be told is asked again.
        self.generation = (fates.untold == 0).then_some(now);
        let news = [&fates.survived, &fates.died, &fates.unknown].iter().any(|keys| !keys.is_empty());
        if self.reported.replace(now) == Some(now) && !news {
            return Ok(None);
        }
        let gc_cycle = Some(fates.cycle);
        let reading = Reading { from, gc_cycle, readout: Readout::Fates(fates) };
        Ok(Some(Record { slot: Slot(0), time: clock::now(), body: Body::Reading(reading) }))
    }
}

fn is_gone(e: &StateError) -> bool {
    matches!(e, StateError::Read { fault, .. } if fault.kind == FaultKind::Gone)
}
