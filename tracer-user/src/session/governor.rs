//! The governor thread: owns what the kernel side loaded and every probe on the target, and keeps tracing within its budget.
//!
//! Ten times a second it reads how often probes were hit and what readings took, and does what the budget says
//! (`control/budget.rs`): it decides nothing itself. Apart from the loop because an attach takes some tens of milliseconds, in
//! which the loop has other things to do. It lets go of its probes when it ends, which is behind the last report.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    account::Account,
    clock, hit_costs,
    inbox::Wake,
    pace::Pace,
    pinner::{self, Pinned},
    plan::{self, Planned, Refusal},
    prober::{Engine, Kind, Linked, missing, sites},
    room,
    setup::{Allowed, Events},
    target::Target,
};
use tracer_common::{
    control::{MAX_PROBES, PinControl, TargetControl},
    cookie::{BY_OBJECT, Shape},
};

use crate::{
    binary::x86::Emulates,
    control::{
        budget::{Budget, Group, Order},
        pins::Call,
        windows::Window,
    },
    kernel::{Attachment, Kernel, KernelError, calibrate::HitCosts, tables::Spending, tables::Tables},
    record::{
        Body, Counter, Note, Record, Slot,
        facts::Overhead,
        note::{PinnedCall, Probe},
    },
};

/// How often spending is looked at.
const EVERY: Duration = Duration::from_millis(100);
/// An allocation that was chosen has its object by then; where its thread is off the processor for longer, it is forgotten.
const HANDED_OUT_WITHIN: Duration = Duration::from_millis(2);
/// Calls in the program's code run any number of times: so soon after they were probed is looked how often these do.
const TRIED_FOR: Duration = Duration::from_millis(5);
/// Between two looks whether there is room in the inbox, or an end.
const ROOM_EVERY: Duration = Duration::from_millis(5);
/// What a hit is taken to cost where that could not be measured: more than it did on any host so far.
const UNKNOWN_HIT_NS: f64 = 3_000.0;

/// What the loop may ask for.
pub(super) enum Ask {
    Pin(pinner::Ask),
    /// Follows fewer of the objects of these calls, which are probed.
    Thin(Vec<Call>),
    Open(Window),
}

/// A running governor.
pub(super) struct Governor {
    asks: Sender<Ask>,
    /// It is to let go, whatever it is at.
    lets_go: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What it works with.
pub(super) struct Parts {
    /// Absent where nothing is probed: then readings alone are counted.
    pub(super) engine: Option<Engine>,
    pub(super) target: Arc<Target>,
    pub(super) emulates: Emulates,
    /// How many probes the session has; those that come are behind them.
    pub(super) probes: Arc<AtomicUsize>,
    pub(super) pace: Arc<Pace>,
    pub(super) account: Arc<Account>,
    pub(super) allowed: Allowed,
}

impl Governor {
    pub(super) fn start(parts: Parts, inbox: SyncSender<Wake>) -> std::io::Result<Self> {
        let (asks, asked) = channel();
        let lets_go = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&lets_go);
        let thread = std::thread::Builder::new().name("governor".into()).spawn(move || {
            Work::new(parts, told).run(&asked, &inbox);
        })?;
        Ok(Self { asks, lets_go, thread })
    }

    /// `false`: the thread has ended.
    pub(super) fn ask(&self, ask: Ask) -> bool {
        self.asks.send(ask).is_ok()
    }

    /// Lets go of all probes.
    pub(super) fn detach(self) {
        let Self { asks, lets_go, thread } = self;
        lets_go.store(true, Ordering::Release);
        drop(asks);
        // A panic there is shown by itself, and dropped the links as well.
        drop(thread.join());
    }
}

/// What a group of probes is there for.
#[derive(Clone, Copy)]
enum Of {
    Kind(Kind),
    /// Single calls.
    Calls,
    /// The allocator, for moments.
    Window,
}

/// Probes that are attached and let go together.
struct Member {
    of: Of,
    group: Group,
    planned: Vec<Planned>,
    /// What each had taken at the last look.
    seen: Vec<Spending>,
    /// Absent while they are taken away.
    attachment: Option<Attachment>,
}

impl Member {
    fn new(of: Of, group: Group, planned: Vec<Planned>, attachment: Option<Attachment>) -> Self {
        let seen = vec![Spending::default(); planned.len()];
        Self { of, group, planned, seen, attachment }
    }
}

struct Work {
    kernel: Option<Kernel>,
    /// The target's row there.
    control: Option<TargetControl>,
    tables: Option<Arc<Tables>>,
    target: Arc<Target>,
    emulates: Emulates,
    probes: Arc<AtomicUsize>,
    pace: Arc<Pace>,
    account: Arc<Account>,
    allowed: Allowed,
    budget: Budget,
    members: Vec<Member>,
    /// Calls that are or were probed, with what the kernel side was told last.
    pinned: Vec<(PinnedCall, PinControl)>,
    /// Probes that were attached a moment ago.
    trial: Option<Group>,
    /// What a hit costs; absent where it could not be measured.
    costs: Option<HitCosts>,
    looked: Instant,
    /// What they had taken at the last look.
    readings: Duration,
    /// Allocations that windows chose and that had no object behind them, so far.
    forgotten: u64,
    lets_go: Arc<AtomicBool>,
}

impl Work {
    fn new(parts: Parts, lets_go: Arc<AtomicBool>) -> Self {
        let Parts { engine, target, emulates, probes, pace, account, allowed } = parts;
        let mut budget = Budget::new(allowed.share, allowed.bounds_hits);
        let (mut kernel, mut control, mut tables, mut members) = (None, None, None, Vec::new());
        if let Some(Engine { kernel: loaded, tables: counts, links, control: row }) = engine {
            for Linked { of, planned, attachment } in links {
                members.push(Member::new(Of::Kind(of), budget.add(), planned, Some(attachment)));
            }
            (kernel, control, tables) = (Some(loaded), Some(row), Some(counts));
        }
        Self {
            kernel,
            control,
            tables,
            target,
            emulates,
            probes,
            pace,
            account,
            allowed,
            budget,
            members,
            pinned: Vec::new(),
            trial: None,
            costs: None,
            looked: Instant::now(),
            readings: Duration::ZERO,
            forgotten: 0,
            lets_go,
        }
    }

    fn run(mut self, asked: &Receiver<Ask>, inbox: &SyncSender<Wake>) {
        let mut notes = self.calibrate();
        loop {
            let record = |note| Record { slot: Slot(0), time: clock::now(), body: Body::Note(note) };
            let records: Vec<Record> = notes.drain(..).map(record).collect();
            if !records.is_empty() && !self.tell(records, inbox) || self.lets_go() {
                break;
            }
            match asked.recv_timeout(EVERY.saturating_sub(self.looked.elapsed())) {
                Ok(Ask::Pin(ask)) => {
                    if let Err(why) = self.pin(&ask, &mut notes) {
                        let function = "a call that makes what grows".to_owned();
                        notes.push(Note::SiteRefused { function, why });
                    }
                }
                Ok(Ask::Thin(calls)) => {
                    if let Err(why) = self.thin(&calls, &mut notes) {
                        notes.push(Note::ReadingFailed { what: "how many objects are followed".into(), why });
                    }
                }
                Ok(Ask::Open(window)) => {
                    self.pace.hurry(true);
                    // What was spent until now is known, and what this takes is looked at at once.
                    self.look(&mut notes);
                    let opened = self.window(window, &mut notes);
                    self.pace.hurry(false);
                    self.look(&mut notes);
                    if let Err(why) = opened {
                        let function = "the allocator, for a moment,".to_owned();
                        notes.push(Note::SiteRefused { function, why });
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.look(&mut notes),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Links first: what they run is the kernel side's.
        drop(self.members);
        drop(self.kernel);
    }

    fn lets_go(&self) -> bool {
        self.lets_go.load(Ordering::Acquire)
    }

    /// Waits for room in the inbox, but not for a loop that waits for this thread. `false`: nobody listens any more.
    fn tell(&self, records: Vec<Record>, inbox: &SyncSender<Wake>) -> bool {
        let mut wake = Wake::Read(records);
        loop {
            wake = match inbox.try_send(wake) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(_)) if self.lets_go() => return false,
                Err(TrySendError::Full(wake)) => wake,
            };
            std::thread::sleep(ROOM_EVERY);
        }
    }

    /// `false`: it is to let go.
    fn wait(&self, for_s: f64) -> bool {
        let until = Instant::now() + Duration::from_secs_f64(for_s);
        while !self.lets_go() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(ROOM_EVERY));
        }
        false
    }

    /// Measures what a hit costs here.
    fn calibrate(&mut self) -> Vec<Note> {
        let (Some(kernel), Some(tables)) = (&mut self.kernel, &self.tables) else { return Vec::new() };
        match hit_costs::measure(kernel, tables) {
            Ok(costs) => {
                self.costs = Some(costs);
                Vec::new()
            }
            Err(why) => vec![Note::ReadingFailed { what: "what a probe costs here".into(), why }],
        }
    }

    /// What was spent since the last look, and what to do about it.
    fn look(&mut self, notes: &mut Vec<Note>) {
        let took = self.looked.elapsed();
        self.looked = Instant::now();
        let readings = self.target.memory.spent();
        let of_readings = readings.saturating_sub(std::mem::replace(&mut self.readings, readings));
        let hits = match self.spent() {
            Ok(hits) => hits,
            Err(e) => {
                notes.push(Note::ReadingFailed { what: "hits of probes".into(), why: e.to_string() });
                return;
            }
        };
        let mut orders = self.budget.look(took, of_readings, &hits);
        let tried = self.trial.filter(|group| !self.budget.keeps(hits[group.0], took));
        if let Some(group) = tried.map(Order::Close).filter(|order| !orders.contains(order)) {
            orders.push(group);
        }
        for order in orders {
            match order {
                Order::Close(group) => self.close(group, hits[group.0], took, notes),
                Order::Open(group) => self.open(group, notes),
            }
        }
        self.account.tell(self.overhead(), self.budget.may_read());
    }

    /// By group, since the last look.
    fn spent(&mut self) -> Result<Vec<Duration>, KernelError> {
        let Some(tables) = &self.tables else { return Ok(Vec::new()) };
        let mut spent = vec![Duration::ZERO; self.members.len()];
        for member in &mut self.members {
            let mut ns = 0.0;
            for (plan, seen) in member.planned.iter().zip(&mut member.seen) {
                let now = tables.spending(plan.cookie.probe)?;
                let hits = now.hits.saturating_sub(seen.hits);
                *seen = now;
                let trap = self.costs.as_ref().map(|costs| hit_costs::of(costs, plan.site.instruction));
                let program = if now.timed == 0 { 0.0 } else { now.timed_ns as f64 / now.timed as f64 };
                ns += hits as f64 * (trap.unwrap_or(UNKNOWN_HIT_NS) + program);
            }
            spent[member.group.0] = Duration::from_secs_f64(ns / 1e9);
        }
        Ok(spent)
    }

    fn overhead(&self) -> Overhead {
        let known = self.tables.is_none() || self.costs.is_some();
        let taken = self.budget.taken();
        let nanos = |seconds: f64| (seconds * 1e9).round() as u64;
        Overhead {
            budget_ppm: (self.allowed.share * 1e6).round() as u32,
            bounds_hits: self.allowed.bounds_hits,
            elapsed_ns: nanos(taken.elapsed),
            hits_ns: known.then(|| nanos(taken.hits)),
            readings_ns: nanos(taken.readings),
            throttled_ns: nanos(taken.throttled),
            hit_costs: self.costs.as_ref().map(hit_costs::named).unwrap_or_default(),
        }
    }

    fn close(&mut self, group: Group, spent: Duration, took: Duration, notes: &mut Vec<Note>) {
        let Some(member) = self.members.iter_mut().find(|member| member.group == group) else { return };
        member.attachment = None;
        match member.of {
            Of::Kind(kind) => notes.push(Note::Throttled { what: kind.name().into() }),
            // What was made meanwhile would be missing among what lives.
            Of::Calls => {
                self.budget.retire(group);
                let share = 100.0 * spent.as_secs_f64() / took.as_secs_f64().max(1e-9);
                let why = format!(
                    "their probes took {share:.1} % of a processor, more than the budget has left for them"
                );
                let probes = member.planned.iter().map(|plan| u32::from(plan.cookie.probe)).collect();
                notes.push(Note::Unpinned { probes, why });
            }
            Of::Window => {}
        }
    }

    fn open(&mut self, group: Group, notes: &mut Vec<Note>) {
        let Some(kernel) = &mut self.kernel else { return };
        let Some(member) = self.members.iter_mut().find(|member| member.group == group) else { return };
        let Of::Kind(kind) = member.of else { return };
        let attached = attach_again(kernel, &self.target, &member.planned, notes);
        match attached {
            Ok(attachment) => {
                member.attachment = Some(attachment);
                notes.push(Note::Resumed { what: kind.name().into() });
            }
            Err(why) => {
                self.budget.retire(group);
                notes.push(Note::SiteRefused { function: kind.name().into(), why });
            }
        }
    }

    /// Probes single calls.
    fn pin(&mut self, ask: &pinner::Ask, notes: &mut Vec<Note>) -> Result<(), String> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let first = self.probes.load(Ordering::Acquire);
        let Pinned { planned, calls } = pinner::plan(&self.target, self.emulates, ask, first, notes)?;
        for (call, control) in &calls {
            kernel.set_pin(call.probe, *control).map_err(|e| e.to_string())?;
        }
        // What was spent until now is known.
        self.look(notes);
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let attachment = attach(kernel, &self.target, &planned, notes)?;
        self.probes.store(first + planned.len(), Ordering::Release);
        let told = calls.iter().map(|(call, _)| *call).collect();
        notes.push(Note::Pinned { calls: told, probes: plan::probe_notes(&planned) });
        self.pinned.extend(calls);
        let group = self.budget.add();
        self.members.push(Member::new(Of::Calls, group, planned, Some(attachment)));
        self.wait(TRIED_FOR.as_secs_f64());
        self.trial = Some(group);
        self.look(notes);
        self.trial = None;
        Ok(())
    }

    /// Gives calls that are probed another mean.
    fn thin(&mut self, calls: &[Call], notes: &mut Vec<Note>) -> Result<(), String> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        for Call { returns_to, mean } in calls {
            let of_call = |(call, _): &&mut (PinnedCall, PinControl)| call.site.returns_to == *returns_to;
            let Some((call, control)) = self.pinned.iter_mut().find(of_call) else { continue };
            let next = PinControl { mean: *mean, era: control.era.saturating_add(1), ..*control };
            kernel.set_pin(call.probe, next).map_err(|e| e.to_string())?;
            (*control, call.mean) = (next, *mean);
            notes.push(Note::Pinned { calls: vec![*call], probes: Vec::new() });
        }
        Ok(())
    }

    /// Probes the allocator for a moment, if the budget has what that takes. Other probes are not looked after meanwhile.
    fn window(&mut self, window: Window, notes: &mut Vec<Note>) -> Result<(), String> {
        if self.kernel.is_none() || !self.budget.affords(window.costs) {
            return Ok(());
        }
        let known = self.members.iter().position(|member| matches!(member.of, Of::Window));
        let (place, new) = match known {
            Some(place) => (place, Vec::new()),
            None => self.add_allocator()?,
        };
        let opened = self.hold_open(place, window, notes);
        // Its probes have their numbers, whatever became of it.
        let open_us = opened.as_ref().map_or(0, |open| u64::try_from(open.as_micros()).unwrap_or(u64::MAX));
        notes.push(Note::Window { probes: new, open_us, mean: window.mean });
        opened.map(drop)
    }

    /// Attaches, waits and detaches; for how long allocations were chosen.
    fn hold_open(&mut self, place: usize, window: Window, notes: &mut Vec<Note>) -> Result<Duration, String> {
        self.sample(0)?;
        let Some(kernel) = &mut self.kernel else { return Err("the kernel side is gone".to_owned()) };
        kernel.draw_distances(Slot(0), window.mean).map_err(|e| e.to_string())?;
        let told = notes.len();
        let planned = &self.members[place].planned;
        let attachment = attach_again(kernel, &self.target, planned, notes)?;
        if notes.len() > told {
            // What is chosen at one place would not be seen again at another.
            return Err("not all of its probes are in place".to_owned());
        }
        // None is chosen before all probes are there, nor once they go.
        self.sample(window.mean)?;
        let began = Instant::now();
        self.wait(window.seconds);
        let ended = self.sample(0);
        let open = began.elapsed();
        std::thread::sleep(HANDED_OUT_WITHIN);
        drop(attachment);
        let Some(kernel) = &mut self.kernel else { return Ok(open) };
        match ended.and_then(|()| kernel.forget_pending().map_err(|e| e.to_string())) {
            Ok(forgotten) => {
                self.forgotten += forgotten;
                notes.push(Note::Lost { counter: Counter::WindowForgotten, count: self.forgotten });
            }
            Err(why) => notes.push(Note::ReadingFailed { what: "what waits for its object".into(), why }),
        }
        Ok(open)
    }

    /// Mean objects between two that the allocator's probes choose; 0: none is.
    fn sample(&mut self, mean: u64) -> Result<(), String> {
        let (Some(kernel), Some(control)) = (&mut self.kernel, &mut self.control) else { return Ok(()) };
        control.sample.mean = mean;
        kernel.set_target(Slot(0), *control).map_err(|e| e.to_string())
    }

    /// Plans the probes on the allocator; which of the members they are, and what reports say of them.
    fn add_allocator(&mut self) -> Result<(usize, Vec<Probe>), String> {
        let planned = self.allocator()?;
        self.probes.fetch_add(planned.len(), Ordering::AcqRel);
        let probes = plan::probe_notes(&planned);
        // What they take is counted; they go by themselves.
        let group = self.budget.add();
        self.budget.retire(group);
        self.members.push(Member::new(Of::Window, group, planned, None));
        Ok((self.members.len() - 1, probes))
    }

    /// Where the allocator is entered and where it hands out objects.
    fn allocator(&self) -> Result<Vec<Planned>, String> {
        let events = Events { sampled: true, ..Events::default() };
        let (mut planned, refused) = plan::plan_sites(&self.target.image, Slot(0), events, self.emulates);
        for plan in planned.iter_mut().filter(|plan| plan.cookie.shape == Shape::SampleBegin) {
            plan.cookie.flags |= BY_OBJECT;
        }
        if let Some(refusal) = refused.first() {
            return Err(format!("{}: {}", refusal.function, refusal.why));
        }
        let first = self.probes.load(Ordering::Acquire);
        if first + planned.len() > MAX_PROBES as usize {
            return Err(format!("more than {MAX_PROBES} probes"));
        }
        let (planned, differing) = plan::keep_intact(&self.target.memory, self.target.bias, planned, first);
        match differing.first() {
            Some(refusal) => Err(refusal.why.clone()),
            None => Ok(planned),
        }
    }
}

/// Attaches what was there before: another tool may have come, and the program may be another one by now.
fn attach_again(
    kernel: &mut Kernel,
    target: &Target,
    planned: &[Planned],
    notes: &mut Vec<Note>,
) -> Result<Attachment, String> {
    target.process.still_same().map_err(|e| e.to_string())?;
    let (_, differing) = plan::keep_intact(&target.memory, target.bias, planned.to_vec(), 0);
    match differing.first() {
        Some(refusal) => Err(refusal.why.clone()),
        None => attach(kernel, target, planned, notes),
    }
}

/// Attaches `planned`; which of them did not take is told in `notes`.
fn attach(
    kernel: &mut Kernel,
    target: &Target,
    planned: &[Planned],
    notes: &mut Vec<Note>,
) -> Result<Attachment, String> {
    room::check(&target.process, planned).map_err(|e| e.to_string())?;
    let path = target.process.attach_path();
    let attached = kernel.attach(&path.to_string_lossy(), target.process.pid(), &sites(planned));
    let attachment = attached.map_err(|e| e.to_string())?;
    for Refusal { function, why } in missing(&target.memory, target.bias, planned) {
        notes.push(Note::SiteNotTaken { function, why });
    }
    Ok(attachment)
}
