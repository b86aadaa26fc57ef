//! The reader thread: short readings of the target and of the kernel's tables, by cadence.
//!
//! It only reads. A failed reading becomes a note with the reason; the session goes on with the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel},
    },
    time::{Duration, Instant},
};

use super::{
    account::Account, call_sites::CodeLook, clock, heap::HeapReader, inbox::Wake, maps::MapFinder,
    target::Target,
};
use crate::{
    control::budget::May,
    goruntime::state::{StateError, goroutines::Limits, profile, profile::ProfileVars},
    host::HostError,
    kernel::{priority::wait_for_others, tables::Tables},
    record::{Body, Note, Reading, Readout, Record, Slot},
    units::KTime,
};

/// GC figures and size classes are a few kilobytes: ten times a second finds the low point of each GC cycle.
const QUICK_EVERY: Duration = Duration::from_millis(100);
/// A reading of everything, or of all goroutines, never takes more than this part of what tracing may take. One that is asked for
/// is taken at once.
const PART: f64 = 0.5;
/// The same until there are as many as a verdict needs, while the account has something left for readings.
const PART_AT_FIRST: f64 = 3.0;
const FIRST: u32 = 16;
/// Nor, with its pauses, more than this share of the time.
const SHARE_OF_TIME: f64 = 0.1;

/// How long a reading that was asked for waits for what the look through the code brings: a short session has it too.
const CODE_WITHIN: Duration = Duration::from_millis(250);

/// What the loop asks the thread for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// One reading of everything.
    Now,
    /// The same, and then the end of the thread.
    Last,
}

/// A running reader.
pub(super) struct Reader {
    asks: Sender<Ask>,
}

/// What is read.
pub(super) struct Sources {
    pub(super) target: Arc<Target>,
    /// The kernel's tables and how many probes they count.
    pub(super) tables: Option<(Arc<Tables>, Arc<AtomicUsize>)>,
    pub(super) account: Arc<Account>,
    /// The share of one processor that tracing may take.
    pub(super) share: f64,
    /// Absent in a program without maps that grow.
    pub(super) maps: Option<MapFinder>,
    /// Absent where only one look is taken.
    pub(super) code: Option<CodeLook>,
    /// The runtime's memory profiler, where its profile is to be read.
    pub(super) profile: Option<ProfileVars>,
}

impl Reader {
    pub(super) fn start(
        sources: Sources,
        interval: Duration,
        inbox: SyncSender<Wake>,
    ) -> std::io::Result<Self> {
        let (asks, asked) = channel();
        std::thread::Builder::new().name("reader".into()).spawn(move || {
            wait_for_others();
            Cadence::new(sources, interval).run(&asked, &inbox);
        })?;
        Ok(Self { asks })
    }

    /// Asks for one reading of everything, after which the thread ends. `false`: it has ended already.
    pub(super) fn finish(&self) -> bool {
        self.asks.send(Ask::Last).is_ok()
    }

    /// Asks for one reading of everything. `false`: the thread has ended.
    pub(super) fn ask(&self) -> bool {
        self.asks.send(Ask::Now).is_ok()
    }
}

/// What is due when.
struct Cadence {
    sources: Sources,
    interval: Duration,
    last_cycle: Option<u32>,
    full: Pace,
    goroutines: Pace,
    heap: HeapReader,
    census: Pace,
    /// The GC cycle that the last census is of: another one of the same cycle would say the same.
    census_cycle: Option<u32>,
    profile: Pace,
    /// The GC cycle of the newest reading of the profile.
    profiled: Profiled,
}

/// When the memory profile was last read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Profiled {
    Never,
    /// In this GC cycle, where that was known.
    In(Option<u32>),
}

/// Which of the longer readings are made in a round.
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set of independent readings")]
struct Due {
    full: bool,
    goroutines: bool,
    census: bool,
    profile: bool,
}

impl Due {
    const ALL: Self = Self { full: true, goroutines: true, census: true, profile: true };
    const NONE: Self = Self { full: false, goroutines: false, census: false, profile: false };
}

impl Cadence {
    fn new(sources: Sources, interval: Duration) -> Self {
        let pace = Pace { due: Instant::now(), made: 0 };
        Self {
            sources,
            interval,
            last_cycle: None,
            full: pace,
            goroutines: pace,
            heap: HeapReader::default(),
            census: pace,
            census_cycle: None,
            profile: pace,
            profiled: Profiled::Never,
        }
    }

    fn run(mut self, asked: &Receiver<Ask>, inbox: &SyncSender<Wake>) {
        let mut ask = None;
        loop {
            let now = Instant::now();
            let due = if ask.is_some() { Due::ALL } else { self.due(now) };
            let read = self.read(due, ask.is_some());
            let wake = match (read, ask) {
                (Ok(records), None) => Wake::Read(records),
                (Ok(records), Some(Ask::Now)) => Wake::AskedRead(records),
                (Ok(records), Some(Ask::Last)) => Wake::LastRead(records),
                (Err(gone), Some(Ask::Last)) => Wake::LastRead(self.last_counts(&gone)),
                (Err(gone), None | Some(Ask::Now)) => {
                    let last = self.last_counts(&gone);
                    if inbox.send(Wake::TargetGone).is_ok() && asked.iter().any(|ask| ask == Ask::Last) {
                        drop(inbox.send(Wake::LastRead(last)));
                    }
                    return;
                }
            };
            let last = matches!(wake, Wake::LastRead(_));
            if inbox.send(wake).is_err() || last {
                return;
            }
            ask = match asked.recv_timeout(QUICK_EVERY.min(self.interval)) {
                Ok(ask) => Some(ask),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    }

    /// What is due and may be read: where little is left for readings, what has waited longest.
    fn due(&self, now: Instant) -> Due {
        // A GC publishes more of the profile.
        let newer = self.profiled != Profiled::In(self.last_cycle);
        let news = self.last_cycle.is_some() && self.last_cycle != self.census_cycle;
        let since = |wanted: bool, pace: &Pace| (wanted && now >= pace.due).then_some(pace.due);
        let full = since(true, &self.full);
        let goroutines = since(true, &self.goroutines);
        let profile = since(self.sources.profile.is_some() && newer, &self.profile);
        let census = since(news, &self.census);
        let first = match self.sources.account.may_read() {
            May::None => return Due::NONE,
            May::One => [full, goroutines, profile, census].into_iter().flatten().min(),
            May::All => None,
        };
        let is_on = |since: Option<Instant>| since.is_some() && (first.is_none() || since == first);
        let (full, goroutines, profile) = (is_on(full), is_on(goroutines), is_on(profile));
        // In a round of its own, so that what is read in microseconds is not kept waiting for it; right after the
        // round that saw a cycle end.
        let census = !full && !goroutines && !profile && is_on(census);
        Due { full, goroutines, census, profile }
    }

    /// What the kernel counted is ours and outlives the target. Where the target runs the same file again, the
    /// probes count on: those counts are of two programs, and the loss of the first one's last is noted.
    fn last_counts(&self, gone: &Gone) -> Vec<Record> {
        match gone {
            Gone::Ended => self.counts().into_iter().collect(),
            Gone::Replaced(why) => {
                let note = Note::Replaced { why: why.clone() };
                vec![Record { slot: Slot(0), time: clock::now(), body: Body::Note(note) }]
            }
        }
    }

    /// One round of readings, or the news that the target is not the process we opened.
    fn read(&mut self, due: Due, asked: bool) -> Result<Vec<Record>, Gone> {
        let Due { full, goroutines, census, profile } = due;
        let mut records = Vec::new();
        if full || goroutines || census || profile {
            // First: what was swapped out since the last look is left alone in this round.
            if let Err(e) = self.sources.target.memory.look_for_swap() {
                records.push(failed("which pages are swapped out", &e));
            }
        }
        self.quick(&mut records);
        if full {
            let began = Began::now();
            let target = &self.sources.target;
            let process =
                take("process figures", self.last_cycle, || target.process.figures().map(Readout::Process));
            records.push(process);
            let notes = target.plugins.look(target, self.sources.tables.is_some());
            records.extend(notes.into_iter().map(note));
            let counts = self.counts();
            if let (Some(finder), Some(Record { body: Body::Reading(reading), .. })) =
                (&mut self.sources.maps, &counts)
                && let Readout::Counts(counts) = &reading.readout
            {
                finder.learn(counts);
            }
            records.extend(counts);
            self.code(asked);
            self.maps(&mut records);
            self.full.made(began, self.interval, self.sources.share);
        }
        if goroutines {
            let began = Began::now();
            let target = &self.sources.target;
            let mut waits = None;
            records.push(take("goroutines", self.last_cycle, || {
                let read = target.state.goroutines_and_waits(&target.memory, Limits::default());
                read.map(|(goroutines, since)| {
                    waits = Some(since);
                    Readout::Goroutines(goroutines)
                })
            }));
            // Of the same reading.
            records.extend(waits.map(|waits| made(self.last_cycle, Readout::Waits(waits))));
            self.goroutines.made(began, self.interval, self.sources.share);
        }
        if census {
            let began = Began::now();
            let (target, heap) = (&self.sources.target, &mut self.heap);
            let kind = self.sources.maps.as_ref().map(MapFinder::kind);
            let profile = self.sources.profile.as_ref();
            let (mut maps, mut sampled) = (None, None);
            records.push(take("the heap census", self.last_cycle, || {
                heap.read(target, kind, profile).map(|read| {
                    (maps, sampled) = (read.maps, read.sampled);
                    Readout::Census(read.census)
                })
            }));
            if let (Some(finder), Some(found)) = (&mut self.sources.maps, maps) {
                records.push(made(self.last_cycle, Readout::MapSearch(finder.came_by(found))));
            }
            match sampled {
                // With a profile of its own, for they are of one moment.
                Some(Ok((profile, live))) => {
                    let both = [Readout::Profile(profile), Readout::LiveSampled(live)];
                    records.extend(both.map(|readout| made(self.last_cycle, readout)));
                }
                None => {}
                Some(Err(e)) => records.push(failed("sampled objects", &e)),
            }
            self.census_cycle = self.last_cycle;
            self.census.made(began, self.interval, self.sources.share);
        }
        if profile {
            records.extend(self.profile());
        }
        // It may have ended during the readings.
        self.code(asked);
        if let Some(code) = &mut self.sources.code {
            code.learn(&records);
            records.extend(code.news().map(|found| made(None, found)));
        }
        // Checked after the reads: what was read before a replacement was noticed must not count.
        match self.sources.target.process.still_same() {
            Ok(()) => Ok(records),
            Err(HostError::Gone { .. } | HostError::NoSuchProcess { .. }) => Err(Gone::Ended),
            Err(e @ (HostError::Replaced { .. } | HostError::MainThreadEnded { .. })) => {
                Err(Gone::Replaced(e.to_string()))
            }
            Err(e) => {
                records.push(failed("identity", &e));
                Ok(records)
            }
        }
    }

    /// GC figures and size classes of one GC cycle.
    fn quick(&mut self, records: &mut Vec<Record>) {
        let target = &self.sources.target;
        let previous = self.last_cycle;
        let gc = take("GC figures", None, || target.state.gc(&target.memory, previous).map(Readout::Gc));
        if let Body::Reading(Reading { readout: Readout::Gc(gc), .. }) = &gc.body {
            self.last_cycle = Some(gc.cycles);
        }
        records.push(gc);
        let cycle = self.last_cycle;
        records.push(take("size classes", cycle, || {
            settled(|| target.state.size_classes(&target.memory)).map(Readout::SizeClasses)
        }));
    }

    /// What the look through the code brings to others, where it has ended by now.
    fn code(&mut self, asked: bool) {
        let patience = if asked { CODE_WITHIN } else { Duration::ZERO };
        let variables = self.sources.code.as_mut().and_then(|code| code.variables(patience));
        if let (Some(finder), Some(variables)) = (&mut self.sources.maps, variables) {
            finder.held_by(variables);
        }
    }

    fn maps(&mut self, records: &mut Vec<Record>) {
        let target = &self.sources.target;
        let Some(finder) = self.sources.maps.as_mut() else { return };
        if let Err(e) = finder.forget(target) {
            records.push(failed("which maps are gone", &e));
        }
        let from = clock::now();
        let mut maps = target.state.maps(&target.memory, finder.kind(), &finder.known());
        finder.check(&mut maps);
        records.push(made_from(from, self.last_cycle, Readout::Maps(maps)));
    }

    /// The runtime's memory profile, where it is to be read.
    fn profile(&mut self) -> Option<Record> {
        let vars = self.sources.profile?;
        let began = Began::now();
        let target = &self.sources.target;
        let read = || profile::read(&target.memory, target.layout, &vars, profile::Limits::default());
        let record = take("the memory profile", self.last_cycle, || {
            settled(read).map(|found| Readout::Profile(found.profile))
        });
        self.profiled = Profiled::In(self.last_cycle);
        self.profile.made(began, self.interval, self.sources.share);
        Some(record)
    }

    fn counts(&self) -> Option<Record> {
        let (tables, probes) = self.sources.tables.as_ref()?;
        Some(take("kernel tables", self.last_cycle, || {
            tables.read(probes.load(Ordering::Acquire)).map(Readout::Counts)
        }))
    }
}

/// When a reading began.
#[derive(Clone, Copy)]
struct Began {
    at: Instant,
    spent: Duration,
}

impl Began {
    fn now() -> Self {
        Self { at: Instant::now(), spent: clock::spent() }
    }
}

/// When the next reading of a kind is due, and how many there were.
#[derive(Clone, Copy)]
struct Pace {
    due: Instant,
    made: u32,
}

impl Pace {
    /// One more, which ends now; `share` is that of all tracing.
    fn made(&mut self, began: Began, interval: Duration, share: f64) {
        let spent = clock::spent().saturating_sub(began.spent);
        self.made = self.made.saturating_add(1);
        let share = share * if self.made < FIRST { PART_AT_FIRST } else { PART };
        self.due =
            began.at + interval.max(spent.div_f64(share)).max(began.at.elapsed().div_f64(SHARE_OF_TIME));
    }
}

/// The target is not the process we opened any more.
enum Gone {
    Ended,
    /// It goes on, as another program or without its main thread: how.
    Replaced(String),
}

/// What a report without a session is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Once {
    Goroutines,
    Heap,
}

/// One round of what the report is about, or the failure of what identifies the target.
pub(super) fn once(
    target: &Arc<Target>,
    about: Once,
    profile: Option<ProfileVars>,
) -> Result<Vec<Record>, HostError> {
    let sources = Sources {
        target: Arc::clone(target),
        tables: None,
        account: Arc::new(Account::new()),
        share: 1.0,
        maps: None,
        code: None,
        profile,
    };
    let mut cadence = Cadence::new(sources, Duration::from_secs(1));
    let due = Due {
        full: true,
        goroutines: about == Once::Goroutines,
        census: about == Once::Heap,
        profile: profile.is_some(),
    };
    match cadence.read(due, true) {
        Ok(records) => Ok(records),
        Err(Gone::Ended | Gone::Replaced(_)) => {
            Err(target.process.still_same().err().unwrap_or(HostError::Gone { pid: target.process.pid() }))
        }
    }
}

/// Reads again after a moment where the target was between two steps of a change. A thread of the target that lost
/// its processor there stays there for a time slice, however often one reads at once.
fn settled<R>(read: impl Fn() -> Result<R, StateError>) -> Result<R, StateError> {
    for pause in AGAIN_AFTER {
        match read() {
            Err(StateError::Torn { .. }) => std::thread::sleep(pause),
            settled => return settled,
        }
    }
    read()
}

/// Together as long as a few time slices, and less than the shortest interval.
const AGAIN_AFTER: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(8), Duration::from_millis(16)];

/// One reading, timed; or the note that it failed.
fn take<E: std::error::Error>(
    what: &'static str,
    gc_cycle: Option<u32>,
    read: impl FnOnce() -> Result<Readout, E>,
) -> Record {
    let from = clock::now();
    read().map_or_else(|e| failed(what, &e), |readout| made_from(from, gc_cycle, readout))
}

/// What came with another reading.
fn made(gc_cycle: Option<u32>, readout: Readout) -> Record {
    made_from(clock::now(), gc_cycle, readout)
}

fn made_from(from: KTime, gc_cycle: Option<u32>, readout: Readout) -> Record {
    let reading = Reading { from, gc_cycle, readout };
    Record { slot: Slot(0), time: clock::now(), body: Body::Reading(reading) }
}

fn failed(what: &'static str, e: &dyn std::error::Error) -> Record {
    note(Note::ReadingFailed { what: what.into(), why: e.to_string() })
}

fn note(note: Note) -> Record {
    Record { slot: Slot(0), time: clock::now(), body: Body::Note(note) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::Ledger,
        memory::{Flat, ReadAt as _},
        record::{Counter, reading::Maps},
        units::ProcAddr,
    };

    #[test]
    fn a_reading_that_fails_is_counted() {
        let nothing = Flat { base: 0, bytes: &[] };
        let mut ledger = Ledger::new(Slot(0), KTime(0));
        for _ in 0..3 {
            let read = || nothing.read_u8(ProcAddr(1)).map(|_| Readout::Maps(Maps::default()));
            ledger.apply(take("maps", None, read));
        }
        assert_eq!(ledger.losses().into_iter().collect::<Vec<_>>(), [(Counter::ReadingFailed, 3)]);
        assert_eq!(ledger.maps().read_at(), None);
    }

    #[test]
    fn a_slow_reading_leaves_the_target_alone_for_long() {
        let ago = |d| Instant::now().checked_sub(d).unwrap();
        let due = |began: Began, made: u32, interval: Duration| {
            let mut pace = Pace { due: began.at, made };
            pace.made(began, interval, 0.01);
            pace.due - began.at
        };
        assert_eq!(due(Began::now(), 0, Duration::from_hours(1)), Duration::from_hours(1));
        let interval = Duration::from_millis(100);
        let slow = Began { at: ago(Duration::from_secs(1)), ..Began::now() };
        assert!(due(slow, 0, interval) >= Duration::from_secs(10));
        let busy = Began::now();
        while clock::spent() < busy.spent + Duration::from_millis(20) {}
        assert!(due(busy, 0, interval) >= Duration::from_millis(20).div_f64(0.03));
        assert!(due(busy, FIRST, interval) >= Duration::from_secs(4));
    }
}
