//! The governor thread: owns what the kernel side loaded and every probe on the target, and keeps tracing within its budget.
//!
//! Ten times a second it reads how often probes were hit and what readings took, and does what the budget says
//! (`control/budget.rs`): it decides nothing itself. Apart from the loop because an attach takes some tens of milliseconds, in
//! which the loop has other things to do. It lets go of its probes when it ends, which is behind the last report.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    account::Account,
    clock, hit_costs,
    inbox::Wake,
    pinner::{self, Ask, Pinned},
    plan::{self, Planned, Refusal},
    prober::{Engine, Kind, Linked, missing, sites},
    setup::Allowed,
    target::Target,
};
use crate::{
    binary::x86::Emulates,
    control::budget::{Budget, Group, Order},
    kernel::{Attachment, Kernel, KernelError, calibrate::HitCosts, tables::Spending, tables::Tables},
    record::{Body, Note, Record, Slot, facts::Overhead},
    units::ProcAddr,
};

/// How often spending is looked at.
const EVERY: Duration = Duration::from_millis(100);
/// What a hit is taken to cost where that could not be measured: more than it did on any host so far.
const UNKNOWN_HIT_NS: f64 = 3_000.0;

/// A running governor.
pub(super) struct Governor {
    asks: Sender<Ask>,
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
    pub(super) account: Arc<Account>,
    pub(super) allowed: Allowed,
}

impl Governor {
    pub(super) fn start(parts: Parts, inbox: SyncSender<Wake>) -> std::io::Result<Self> {
        let (asks, asked) = channel();
        let thread = std::thread::Builder::new().name("governor".into()).spawn(move || {
            Work::new(parts).run(&asked, &inbox);
        })?;
        Ok(Self { asks, thread })
    }

    /// `false`: the thread has ended.
    pub(super) fn pin(&self, ask: Ask) -> bool {
        self.asks.send(ask).is_ok()
    }

    /// Lets go of all probes.
    pub(super) fn detach(self) {
        let Self { asks, thread } = self;
        drop(asks);
        // A panic there is shown by itself, and dropped the links as well.
        drop(thread.join());
    }
}

/// What a group of probes is there for.
#[derive(Clone, Copy)]
enum Of {
    Kind(Kind),
    Type(ProcAddr),
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
    fn new(of: Of, group: Group, planned: Vec<Planned>, attachment: Attachment) -> Self {
        let seen = vec![Spending::default(); planned.len()];
        Self { of, group, planned, seen, attachment: Some(attachment) }
    }
}

struct Work {
    kernel: Option<Kernel>,
    tables: Option<Arc<Tables>>,
    target: Arc<Target>,
    emulates: Emulates,
    probes: Arc<AtomicUsize>,
    account: Arc<Account>,
    allowed: Allowed,
    budget: Budget,
    members: Vec<Member>,
    /// What a hit costs; absent where it could not be measured.
    costs: Option<HitCosts>,
    looked: Instant,
    /// What they had taken at the last look.
    readings: Duration,
}

impl Work {
    fn new(parts: Parts) -> Self {
        let Parts { engine, target, emulates, probes, account, allowed } = parts;
        let mut budget = Budget::new(allowed.share, allowed.bounds_hits);
        let (mut kernel, mut tables, mut members) = (None, None, Vec::new());
        if let Some(Engine { kernel: loaded, tables: counts, links }) = engine {
            for Linked { of, planned, attachment } in links {
                members.push(Member::new(Of::Kind(of), budget.add(), planned, attachment));
            }
            (kernel, tables) = (Some(loaded), Some(counts));
        }
        Self {
            kernel,
            tables,
            target,
            emulates,
            probes,
            account,
            allowed,
            budget,
            members,
            costs: None,
            looked: Instant::now(),
            readings: Duration::ZERO,
        }
    }

    fn run(mut self, asked: &Receiver<Ask>, inbox: &SyncSender<Wake>) {
        let mut notes = self.calibrate();
        loop {
            let record = |note| Record { slot: Slot(0), time: clock::now(), body: Body::Note(note) };
            let records: Vec<Record> = notes.drain(..).map(record).collect();
            if !records.is_empty() && inbox.send(Wake::Read(records)).is_err() {
                break;
            }
            match asked.recv_timeout(EVERY.saturating_sub(self.looked.elapsed())) {
                Ok(ask) => {
                    if let Err(why) = self.pin(&ask, &mut notes) {
                        let function = "a call that makes a growing type".to_owned();
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
        for order in self.budget.look(took, of_readings, &hits) {
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
            Of::Type(type_addr) => {
                self.budget.retire(group);
                let share = 100.0 * spent.as_secs_f64() / took.as_secs_f64().max(1e-9);
                let why = format!(
                    "their probes took {share:.1} % of a processor, more than the budget has left for them"
                );
                notes.push(Note::Unpinned { type_addr, why });
            }
        }
    }

    fn open(&mut self, group: Group, notes: &mut Vec<Note>) {
        let Some(kernel) = &mut self.kernel else { return };
        let Some(member) = self.members.iter_mut().find(|member| member.group == group) else { return };
        let Of::Kind(kind) = member.of else { return };
        // Another tool may have come, and the program may be another one by now.
        let intact = plan::keep_intact(&self.target.memory, self.target.bias, member.planned.clone(), 0).1;
        let attached = match (self.target.process.still_same(), intact.first()) {
            (Err(e), _) => Err(e.to_string()),
            (Ok(()), Some(refusal)) => Err(refusal.why.clone()),
            (Ok(()), None) => attach(kernel, &self.target, &member.planned, notes),
        };
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

    /// Probes the calls that make a type.
    fn pin(&mut self, ask: &Ask, notes: &mut Vec<Note>) -> Result<(), String> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let first = self.probes.load(Ordering::Acquire);
        let Pinned { planned, controls, calls } =
            pinner::plan(&self.target, self.emulates, ask, first, notes)?;
        for (probe, control) in controls {
            kernel.set_pin(probe, control).map_err(|e| e.to_string())?;
        }
        let attachment = attach(kernel, &self.target, &planned, notes)?;
        self.probes.store(first + planned.len(), Ordering::Release);
        notes.push(Note::Pinned { calls, probes: plan::probe_notes(&planned) });
        let group = self.budget.add();
        self.members.push(Member::new(Of::Type(ask.type_addr), group, planned, attachment));
        Ok(())
    }
}

/// Attaches `planned`; which of them did not take is told in `notes`.
fn attach(
    kernel: &mut Kernel,
    target: &Target,
    planned: &[Planned],
    notes: &mut Vec<Note>,
) -> Result<Attachment, String> {
    let path = target.process.attach_path();
    let attached = kernel.attach(&path.to_string_lossy(), target.process.pid(), &sites(planned));
    let attachment = attached.map_err(|e| e.to_string())?;
    for Refusal { function, why } in missing(&target.memory, target.bias, planned) {
        notes.push(Note::SiteNotTaken { function, why });
    }
    Ok(attachment)
}
