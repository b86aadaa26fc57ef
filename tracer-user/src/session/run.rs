//! The loop: one ledger, one inbox, one closed list of wake-ups. It blocks on nothing but its inbox.

use std::{
    process::ExitStatus,
    sync::{
        Arc,
        atomic::AtomicUsize,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    account::Account,
    call_sites::CodeLook,
    clock,
    drain::Drain,
    error::SessionError,
    facts,
    fence::Fence,
    follower::Follower,
    governor::{Governor, Parts},
    inbox::{Signal, Wake, inbox},
    maps::MapFinder,
    names::ImageNames,
    open::{self, Failed, Opened},
    operator,
    pace::Pace,
    pinning::Pinning,
    placer::Placer,
    plan::{self, Refusal},
    plugins::More,
    privileges,
    prober::Probes,
    program::Program,
    reader::{Reader, Sources},
    recording::Recording,
    setup::{Output, Setup, Until, Which},
    signals,
    watched::Watched,
};
use crate::{
    aggregate::Ledger,
    analyze,
    binary::x86::Emulates,
    capture::NewFile,
    goruntime::GoImage,
    host::{launch::Running, registry::Registration},
    kernel::{AttachKind, capability::Capabilities},
    record::{
        Body, Event, Note, Reading, Readout, Record, Slot,
        note::EndedBy,
        samples::{Fates, SampleKey},
    },
    report::Report,
    symbolize::Symbolizer,
};
use tracer_common::{cookie::Shape, counter::Counter};

/// How a session ended.
#[derive(Debug)]
pub struct Ended {
    pub by: EndedBy,
    /// The exit status of the program we started.
    pub child: Option<ExitStatus>,
}

const TICK: Duration = Duration::from_millis(50);
/// A last reading that takes longer is not waited for.
const LAST_READ_WITHIN: Duration = Duration::from_secs(10);
/// The same for what the drain thread still has.
const LAST_DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// Holds one session, from attach to the last report.
pub fn run<'a>(setup: &'a Setup, output: Output<'a>) -> Result<Ended, SessionError> {
    let capabilities = Capabilities::read();
    // A path that cannot be written is refused before anything is attached or started.
    let record = setup.record.as_deref().map(NewFile::create).transpose()?;
    let (registration, unentered) = Registration::enter(&setup.run_dir, setup.subject.pid())?;
    let registration = Arc::new(registration);
    let (wakes, inbox) = inbox();
    signals::start(wakes.clone()).map_err(SessionError::Thread)?;
    let notice = Arc::clone(&output.notice);
    operator::start(&registration, Arc::clone(&notice), wakes.clone()).map_err(SessionError::Thread)?;
    let (held, child) = match open::open(setup, &capabilities) {
        Ok(mut opened) => {
            privileges::to_watch(setup, opened.probes.as_ref().map(Probes::kind));
            if let Some(why) = unentered {
                let dir = setup.run_dir.display();
                notice(&format!("`tracer stop-all` will not find this session: {dir}: {why}"));
            }
            let mut child = opened.child.take();
            let held = Session::new(setup, output, opened, record, &capabilities, wakes, &inbox)
                .and_then(|session| session.run(child.as_mut()));
            (held, child)
        }
        Err(Failed { why, child }) => (Err(why), child),
    };
    // Nothing of ours is in the target any more; a program that we started may go on.
    drop(registration);
    match (held, child) {
        (held, None) => held.map(|by| Ended { by, child: None }),
        (Ok(by), Some(child)) => {
            privileges::to_await(setup);
            if matches!(by, EndedBy::Duration | EndedBy::Verdict) {
                notice(&format!(
                    "traced; the program goes on as process {} and its exit status is awaited",
                    child.pid()
                ));
            }
            Ok(Ended { by, child: Program::new(child, inbox).wait() })
        }
        (Err(why), Some(child)) => {
            Err(SessionError::Untraced { why: Box::new(why), program: Program::new(child, inbox) })
        }
    }
}

struct Session<'s, 'a> {
    setup: &'s Setup,
    output: Output<'a>,
    opened: Opened,
    names: ImageNames,
    ledger: Ledger,
    recording: Option<Recording>,
    symbolizer: Symbolizer,
    fence: Fence,
    inbox: &'s Receiver<Wake>,
    drain: Option<Drain>,
    reader: Reader,
    follower: Option<Follower>,
    /// Absent once it has let go.
    governor: Option<Governor>,
    account: Arc<Account>,
    pinning: Option<Pinning>,
    began: Instant,
    first_reported: bool,
    streamed_at: Instant,
    interim: Interim,
    watched: Watched,
}

/// An interim report that was asked for: it waits for readings, which wait for the drain behind them.
#[derive(Clone, Copy)]
enum Interim {
    Unasked,
    /// Until when readings are waited for.
    Reading(Instant),
    /// They came; until when the drain is waited for.
    Read(Instant),
}

impl<'s, 'a> Session<'s, 'a> {
    fn new(
        setup: &'s Setup,
        output: Output<'a>,
        mut opened: Opened,
        record: Option<NewFile>,
        capabilities: &Capabilities,
        wakes: SyncSender<Wake>,
        inbox: &'s Receiver<Wake>,
    ) -> Result<Self, SessionError> {
        let started = clock::now();
        if let Some(pidfd) = opened.target.process.pidfd().and_then(|fd| fd.try_clone().ok()) {
            signals::watch_end(pidfd, wakes.clone()).map_err(SessionError::Thread)?;
        }
        let mut ledger = Ledger::new(Slot(0), started);
        let mut recording = record.map(|file| Recording::start(file, &opened.target)).transpose()?;
        let opening = facts::opening(&opened, setup.sampler, setup.probed(), SystemTime::now(), capabilities);
        let sampled = setup.probed().sampled.then_some(Note::Sampling { mean: setup.sample_bytes });
        for note in opening.into_iter().chain(notes(&opened)).chain(sampled) {
            let record = Record { slot: Slot(0), time: started, body: Body::Note(note) };
            believe(&mut ledger, recording.as_mut(), record);
        }
        let allowed = setup.allowed();
        let pace = Arc::new(Pace::new(allowed.longest_pause()));
        let drain = start_drain(&mut opened, &output, &pace, &wakes)?;
        let engine = opened.probes.as_mut().and_then(|p| p.engine.take());
        let probes = Arc::new(AtomicUsize::new(opened.probes.iter().map(|p| p.planned.len()).sum()));
        let tables = engine.as_ref().map(|engine| (Arc::clone(&engine.tables), Arc::clone(&probes)));
        let account = Arc::new(Account::new());
        let sources = Sources {
            target: Arc::clone(&opened.target),
            tables,
            account: Arc::clone(&account),
            share: allowed.share,
            maps: MapFinder::new(&opened.target),
            code: Some(CodeLook::start(&opened.target).map_err(SessionError::Thread)?),
            profile: opened.profile,
        };
        let quick = opened.probes.as_ref().is_some_and(|probes| probes.kind() == AttachKind::Multi);
        let pins = setup.may_pin() && opened.profile.is_none() && engine.is_some();
        let emulates = Emulates { long_nops: capabilities.emulates_long_nops() };
        let target = Arc::clone(&opened.target);
        let parts = Parts {
            engine,
            target,
            emulates,
            probes,
            pace: Arc::clone(&pace),
            account: Arc::clone(&account),
            allowed,
        };
        let governor = Governor::start(parts, wakes.clone()).map_err(SessionError::Thread)?;
        let follows = pins || opened.probes.is_some() && setup.probed().sampled;
        let start = || Follower::start(&opened.target, allowed, pace, wakes.clone());
        let follower = follows.then(start).transpose().map_err(SessionError::Thread)?;
        let reader = Reader::start(sources, setup.interval, wakes).map_err(SessionError::Thread)?;
        let image: Arc<GoImage> = Arc::clone(&opened.target.image);
        let more = More::Live(Arc::clone(&opened.target.plugins));
        let names = ImageNames { image, bias: opened.target.bias, more };
        say_attached(&output, &opened);
        let planned = opened.probes.iter().flat_map(|p| &p.planned);
        let counts_allocations =
            planned.map(|p| matches!(p.cookie.shape, Shape::Alloc | Shape::SampleBegin)).collect();
        Ok(Self {
            setup,
            output,
            opened,
            names,
            ledger,
            recording,
            symbolizer: Symbolizer::new(),
            fence: Fence::default(),
            inbox,
            drain,
            reader,
            follower,
            governor: Some(governor),
            account,
            pinning: pins.then(|| Pinning::new(allowed.share, quick)),
            began: Instant::now(),
            first_reported: false,
            streamed_at: Instant::now(),
            interim: Interim::Unasked,
            watched: Watched::listening_to(counts_allocations),
        })
    }

    fn run(mut self, mut child: Option<&mut Running>) -> Result<EndedBy, SessionError> {
        let by = loop {
            match self.inbox.recv_timeout(TICK) {
                Ok(Wake::Drained { began, records }) => self.drained(began, records),
                Ok(Wake::Read(records) | Wake::LastRead(records)) => self.read(records),
                Ok(Wake::AskedRead(records)) => {
                    self.read(records);
                    if let Interim::Reading(until) = self.interim {
                        self.interim = Interim::Read(until);
                    }
                }
                Ok(Wake::Signal(Signal::Report)) => self.ask_interim(),
                Ok(Wake::Signal(Signal::LetGo)) => break EndedBy::StopAll,
                Ok(Wake::Signal(Signal::Interrupt)) => {
                    if let Some(child) = &mut child {
                        child.interrupt();
                    }
                    break EndedBy::Signal;
                }
                Ok(Wake::Signal(Signal::Terminate)) => {
                    if let Some(child) = &mut child {
                        child.signal(rustix::process::Signal::TERM);
                    }
                    break EndedBy::Signal;
                }
                Ok(Wake::DrainEnded) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::TargetGone) | Err(RecvTimeoutError::Disconnected) => break EndedBy::TargetExit,
            }
            self.tend_recording();
            if !self.first_reported && self.watched.last_cycle.is_some() && self.drain_has_opened() {
                self.first_reported = true;
                self.publish(Which::First)?;
            }
            let streams = self.setup.stream && self.first_reported;
            if streams && self.streamed_at.elapsed() >= self.setup.interval {
                self.streamed_at = Instant::now();
                self.publish(Which::Point)?;
            }
            if self.interim_is_due() {
                self.interim = Interim::Unasked;
                self.publish(Which::Interim)?;
            }
            self.tend_pins();
            if let Some(by) = self.decided() {
                break by;
            }
        };
        self.finish(by)
    }

    /// An interim report is as fresh as the last one: everything is read once more for it.
    fn ask_interim(&mut self) {
        if matches!(self.interim, Interim::Unasked) {
            let asked = self.reader.ask();
            let until = Instant::now() + if asked { LAST_READ_WITHIN } else { Duration::ZERO };
            self.interim = Interim::Reading(until);
        }
    }

    fn interim_is_due(&self) -> bool {
        match self.interim {
            Interim::Unasked => false,
            Interim::Reading(until) => Instant::now() >= until,
            Interim::Read(until) => self.fence.is_empty() || Instant::now() >= until,
        }
    }

    /// Whether the first readings have passed the fence.
    fn drain_has_opened(&self) -> bool {
        self.ledger.now() > self.ledger.started() && self.fence.is_empty()
    }

    fn drained(&mut self, began: crate::units::KTime, records: Vec<Record>) {
        for record in records {
            let unfollowed = self.follow(&record);
            self.apply(record);
            if let Some(unknown) = unfollowed {
                self.apply(unknown);
            }
        }
        for record in self.fence.release(began) {
            self.apply(record);
        }
    }

    /// Has a sampled object looked at from now on; where that cannot be, what is then known of it.
    fn follow(&self, record: &Record) -> Option<Record> {
        let (Some(follower), Body::Event(Event::Sample(sample))) = (&self.follower, &record.body) else {
            return None;
        };
        let key = SampleKey { address: sample.address, at: record.time };
        if follower.follow(key, sample) {
            return None;
        }
        let readout = Readout::Fates(Fates { unknown: vec![key], ..Fates::default() });
        let body = Body::Reading(Reading { from: record.time, gc_cycle: None, readout });
        Some(Record { slot: Slot(0), time: record.time, body })
    }

    fn read(&mut self, records: Vec<Record>) {
        for record in &records {
            self.watched.see(record);
        }
        if let Some(why) = self.watched.waits_in_vain(self.setup.until) {
            (self.output.notice)(&why);
        }
        let ready = if self.drain.is_some() { self.fence.hold(records) } else { records };
        for record in ready {
            self.apply(record);
        }
    }

    /// Whether the session is over by its own terms.
    fn decided(&mut self) -> Option<EndedBy> {
        let elapsed = self.began.elapsed();
        match self.setup.until {
            Until::Interrupted => None,
            Until::Elapsed(duration) => (elapsed >= duration).then_some(EndedBy::Duration),
            Until::GcCycles(wanted) => {
                let (first, last) = (self.watched.first_cycle?, self.watched.last_cycle?);
                (last.checked_sub(first)? >= wanted).then_some(EndedBy::Verdict)
            }
            Until::Verdict { least, most } => {
                if elapsed >= most {
                    return Some(EndedBy::Duration);
                }
                let due = self.watched.judged_at.is_none_or(|at| at.elapsed() >= self.setup.interval);
                if elapsed < least || !due {
                    return None;
                }
                self.watched.judged_at = Some(Instant::now());
                let evidence = self.symbolizer.evidence(&self.ledger, &self.names);
                analyze::all_decided(&analyze::judge(&evidence)).then_some(EndedBy::Verdict)
            }
        }
    }

    /// Follows what grows, where the code says who makes it.
    fn tend_pins(&mut self) {
        let (Some(pinning), Some(governor)) = (self.pinning.as_mut(), &self.governor) else { return };
        if pinning.is_due() {
            let evidence = self.symbolizer.evidence(&self.ledger, &self.names);
            pinning.tend(&evidence, &self.ledger, &self.names, governor);
        }
    }

    /// The one way into the ledger: what is believed is what is recorded, in the same order.
    fn apply(&mut self, record: Record) {
        believe(&mut self.ledger, self.recording.as_mut(), record);
    }

    /// A note as of now.
    fn say(&mut self, note: Note) {
        self.apply(Record { slot: Slot(0), time: clock::now(), body: Body::Note(note) });
    }

    /// Keeps the recording going, and tells once where it ends.
    fn tend_recording(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.tick();
            if let Some(why) = recording.newly_failed() {
                (self.output.notice)(&why);
            }
        }
    }

    fn publish(&mut self, which: Which) -> Result<(), SessionError> {
        let report = self.report(which);
        (self.output.report)(&report, which).map_err(SessionError::Write)
    }

    fn report(&mut self, which: Which) -> Report {
        if let Some(drain) = &self.drain {
            let (undecodable, unplaced) = (drain.undecodable(), drain.unplaced());
            self.say(Note::Lost { counter: Counter::Undecodable, count: undecodable });
            self.say(Note::Lost { counter: Counter::SampleUnplaced, count: unplaced });
        }
        for note in facts::now(&self.opened, Some(&self.account)) {
            self.say(note);
        }
        if which == Which::Final
            && let Some(recording) = &mut self.recording
        {
            recording.close();
        }
        self.tend_recording();
        if let Some(note) = self.recording.as_mut().and_then(Recording::newly_lost) {
            // Not recorded: it is about what the recording could not take.
            let time = self.ledger.now();
            self.ledger.apply(Record { slot: Slot(0), time, body: Body::Note(note) });
        }
        facts::report(&self.ledger, &mut self.symbolizer, &self.names, true)
            .expect("the session has said whose it is")
    }

    /// The last readings, the last report, and only then the probes let go.
    fn finish(mut self, by: EndedBy) -> Result<EndedBy, SessionError> {
        if by == EndedBy::StopAll {
            self.let_go();
        } else {
            self.last_readings();
        }
        let by = match &self.watched.lost {
            Some(why) => {
                (self.output.notice)(why);
                EndedBy::TargetLost
            }
            None => by,
        };
        if let Some(drain) = &self.drain {
            drain.finish();
        }
        // The drain's last batches hold what the readings need.
        let until = Instant::now() + LAST_DRAIN_WITHIN;
        while self.drain.is_some() && Instant::now() < until {
            match self.inbox.recv_timeout(TICK) {
                Ok(Wake::Drained { began, records }) => self.drained(began, records),
                Ok(Wake::DrainEnded) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        for record in self.fence.flush() {
            self.apply(record);
        }
        self.say(Note::End(by));
        self.heard_something()?;
        self.publish(Which::Final)?;
        self.let_go();
        Ok(by)
    }

    /// Takes the probes out of the target.
    fn let_go(&mut self) {
        if let Some(governor) = self.governor.take() {
            governor.detach();
        }
        if let Some(probes) = self.opened.probes.take() {
            probes.detach();
        }
    }

    /// Asks the reader for everything once more. A second Ctrl-C goes on with what there is.
    fn last_readings(&mut self) {
        if !self.reader.finish() {
            return;
        }
        let until = Instant::now() + LAST_READ_WITHIN;
        let mut why = "it took too long; figures are as of the reading before";
        while Instant::now() < until {
            match self.inbox.recv_timeout(TICK) {
                Ok(Wake::LastRead(records)) => {
                    self.read(records);
                    return;
                }
                Ok(Wake::Read(records) | Wake::AskedRead(records)) => self.read(records),
                Ok(Wake::Drained { began, records }) => self.drained(began, records),
                Ok(Wake::Signal(Signal::Report) | Wake::TargetGone | Wake::DrainEnded)
                | Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::Signal(Signal::Interrupt | Signal::Terminate | Signal::LetGo))
                | Err(RecvTimeoutError::Disconnected) => {
                    why = "it was interrupted; figures are as of the reading before";
                    break;
                }
            }
        }
        self.say(Note::ReadingFailed { what: "everything a last time".into(), why: why.to_owned() });
    }

    /// Zero hits while the target's own counters move is an error, not a zero.
    fn heard_something(&self) -> Result<(), SessionError> {
        self.watched.unheard().map_or(Ok(()), |made| Err(SessionError::Deaf { made }))
    }
}

fn start_drain(
    opened: &mut Opened,
    output: &Output<'_>,
    pace: &Arc<Pace>,
    wakes: &SyncSender<Wake>,
) -> Result<Option<Drain>, SessionError> {
    let Some(probes) = opened.probes.as_mut() else {
        return Ok(None);
    };
    let Some(ring) = probes.ring.take() else {
        return Ok(None);
    };
    let Some(engine) = probes.engine.as_mut() else {
        return Ok(None);
    };
    let mut logger = engine.kernel.logger(LogLines(Arc::clone(&output.notice)))?;
    let placer = Placer::new(Arc::clone(&opened.target));
    Drain::start(ring, Arc::clone(pace), placer, move || logger.flush(), wakes.clone())
        .map(Some)
        .map_err(SessionError::Thread)
}

/// What the eBPF side logs, as notices.
struct LogLines(Arc<dyn Fn(&str) + Send + Sync>);

impl log::Log for LogLines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        (self.0)(&format!("eBPF: {}", record.args()));
    }
    fn flush(&self) {}
}

/// Applies a record, and keeps it where the session is recorded.
fn believe(ledger: &mut Ledger, recording: Option<&mut Recording>, record: Record) {
    if let Some(recording) = recording {
        recording.record(&record);
    }
    ledger.apply(record);
}

/// What was attached and refused.
fn notes(opened: &Opened) -> Vec<Note> {
    let mut notes: Vec<Note> = opened.target.caveat().into_iter().collect();
    if let Some(probes) = &opened.probes {
        notes.push(Note::Attached { probes: plan::probe_notes(&probes.planned) });
    }
    for Refusal { function, why } in &opened.refused {
        notes.push(Note::SiteRefused { function: function.clone(), why: why.clone() });
    }
    for Refusal { function, why } in &opened.not_taken {
        notes.push(Note::SiteNotTaken { function: function.clone(), why: why.clone() });
    }
    notes
}

fn say_attached(output: &Output<'_>, opened: &Opened) {
    let who = opened.target.process.pid();
    match &opened.probes {
        Some(probes) => {
            let kind = match probes.kind() {
                AttachKind::Multi => "shared links",
                AttachKind::Single => "single links",
            };
            let in_place = probes.planned.len().saturating_sub(opened.not_taken.len());
            let why = probes.refusal().map(|why| format!(", as a shared one was refused: {why}"));
            let why = why.unwrap_or_default();
            (output.notice)(&format!("attached {in_place} probes to process {who} by {kind}{why}"));
        }
        None => (output.notice)(&format!("attached no probe to process {who}: {}", opened.reason)),
    }
}
