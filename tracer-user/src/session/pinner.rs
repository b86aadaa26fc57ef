//! The pinner thread: puts probes on single calls of the program's own code, under way.
//!
//! Apart from the loop because an attach takes some tens of milliseconds, in which the loop has other things to do. It owns what
//! the kernel side loaded, and lets go of its probes when it ends, which is behind the last report.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tracer_common::{
    control::{MAX_PROBES, PinControl},
    cookie::{AT_CALL, Cookie, Shape},
};

use super::{
    clock,
    inbox::Wake,
    plan::{self, Planned, Refusal, keep_intact, not_taken, place},
    prober::TAKES_WITHIN,
    room,
    target::Target,
};
use crate::{
    binary::{flow::Place, x86::Emulates},
    goruntime::code::{call_sites, pins, sites::ProbeSite},
    kernel::{Attachment, Kernel, Site},
    record::{Body, Note, Record, Slot, call_sites::CallSite, note::PinnedCall},
    units::ProcAddr,
};

/// A type to pin, with the calls that make it.
pub(super) struct Ask {
    pub(super) type_addr: ProcAddr,
    pub(super) sites: Vec<CallSite>,
    /// Mean bytes between two objects that are followed.
    pub(super) mean: u64,
}

/// What the thread is asked for.
enum Wish {
    Pin(Ask),
    Unpin { type_addr: ProcAddr, why: String },
}

/// A running pinner.
pub(super) struct Pinner {
    asks: Sender<Wish>,
    thread: JoinHandle<()>,
}

impl Pinner {
    /// `probes` counts the session's probes; those that come are behind them.
    pub(super) fn start(
        kernel: Kernel,
        target: &Arc<Target>,
        emulates: Emulates,
        probes: Arc<AtomicUsize>,
        inbox: SyncSender<Wake>,
    ) -> std::io::Result<Self> {
        let (asks, asked) = channel();
        let target = Arc::clone(target);
        let thread = std::thread::Builder::new().name("pinner".into()).spawn(move || {
            Work { kernel, target, emulates, probes, links: Vec::new() }.run(&asked, &inbox);
        })?;
        Ok(Self { asks, thread })
    }

    /// `false`: the thread has ended.
    pub(super) fn pin(&self, ask: Ask) -> bool {
        self.asks.send(Wish::Pin(ask)).is_ok()
    }

    /// Takes the probes of a type away.
    pub(super) fn unpin(&self, type_addr: ProcAddr, why: String) -> bool {
        self.asks.send(Wish::Unpin { type_addr, why }).is_ok()
    }

    /// Lets go of all its probes.
    pub(super) fn detach(self) {
        let Self { asks, thread } = self;
        drop(asks);
        // A panic there is shown by itself, and dropped the links as well.
        drop(thread.join());
    }
}

struct Work {
    kernel: Kernel,
    target: Arc<Target>,
    emulates: Emulates,
    probes: Arc<AtomicUsize>,
    links: Vec<(ProcAddr, Attachment)>,
}

/// A call with its probes: where its object is taken, and the call itself.
struct Call {
    site: CallSite,
    pin: pins::Pin,
}

impl Work {
    fn run(mut self, asked: &Receiver<Wish>, inbox: &SyncSender<Wake>) {
        for wish in asked {
            let mut notes = Vec::new();
            match wish {
                Wish::Pin(ask) => {
                    if let Err(why) = self.pin(&ask, &mut notes) {
                        let function = "a call that makes a growing type".to_owned();
                        notes.push(Note::SiteRefused { function, why });
                    }
                }
                Wish::Unpin { type_addr, why } => {
                    self.links.retain(|(of, _)| *of != type_addr);
                    notes.push(Note::Unpinned { type_addr, why });
                }
            }
            let record = |note| Record { slot: Slot(0), time: clock::now(), body: Body::Note(note) };
            if inbox.send(Wake::Read(notes.into_iter().map(record).collect())).is_err() {
                break;
            }
        }
        // Links first: what they run is the kernel side's.
        drop(self.links);
        drop(self.kernel);
    }

    fn pin(&mut self, ask: &Ask, notes: &mut Vec<Note>) -> Result<(), String> {
        let type_addr = self.target.bias.to_image(ask.type_addr);
        let mut calls = Vec::new();
        for site in &ask.sites {
            let end = self.target.bias.to_image(site.returns_to);
            let of = call_sites::CallSite::before(end, self.target.bias.to_image(site.callee));
            match pins::pin(&self.target.image, of, type_addr, self.emulates) {
                Ok(pin) => calls.push(Call { site: *site, pin }),
                Err(e) => notes.push(refused(Refusal { function: end.to_string(), why: e.to_string() })),
            }
        }
        // Where one call is the place behind another, nobody knows which of two probes there runs first.
        let starts: Vec<_> = calls.iter().map(|call| call.pin.call.address).collect();
        for call in &mut calls {
            call.pin.object.take_if(|(site, _)| starts.contains(&site.address));
        }
        let first = self.probes.load(Ordering::Acquire);
        let mut planned = Vec::new();
        let mut pinned = Vec::new();
        // Where objects come out is watched before any is chosen.
        for Call { pin, .. } in &calls {
            if let (Some((site, at)), Some(_)) = (&pin.object, pin.size) {
                planned.push(plan_object(site, *at));
            }
        }
        for Call { site, pin } in &calls {
            planned.push(plan_call(&pin.call));
            let followed = pin.object.is_some() && pin.size.is_some();
            pinned.push((*site, pin.size, if followed { ask.mean } else { 0 }));
        }
        if first + planned.len() > MAX_PROBES as usize {
            return Err(format!("more than {MAX_PROBES} probes"));
        }
        let wanted = planned.len();
        let (kept, differing) = keep_intact(&self.target.memory, self.target.bias, planned, first);
        let why = differing.first().map(|refusal| refusal.why.clone());
        notes.extend(differing.into_iter().map(refused));
        if kept.len() < wanted {
            return Err(why.unwrap_or_else(|| "its code cannot be proven".to_owned()));
        }
        room::check(&self.target.process, &kept).map_err(|e| e.to_string())?;
        let calls_from = kept.len() - pinned.len();
        let mut told = Vec::new();
        for ((site, size, mean), plan) in pinned.into_iter().zip(&kept[calls_from..]) {
            let size = size.map_or(0, |size| size.0);
            let pin = PinControl { type_addr: ask.type_addr.0, size, mean };
            self.kernel.set_pin(plan.cookie.probe, pin).map_err(|e| e.to_string())?;
            told.push(PinnedCall {
                type_addr: ask.type_addr,
                site,
                mean,
                probe: u32::from(plan.cookie.probe),
            });
        }
        let path = self.target.process.attach_path();
        let sites: Vec<Site> =
            kept.iter().map(|p| Site { offset: p.site.file_offset, cookie: p.cookie }).collect();
        let link = self
            .kernel
            .attach(&path.to_string_lossy(), self.target.process.pid(), &sites)
            .map_err(|e| e.to_string())?;
        self.links.push((ask.type_addr, link));
        self.probes.store(first + kept.len(), Ordering::Release);
        for Refusal { function, why } in self.missing(&kept) {
            notes.push(Note::SiteNotTaken { function, why });
        }
        notes.push(Note::Pinned { calls: told, probes: plan::probe_notes(&kept) });
        Ok(())
    }

    /// Probes that are not in place although they were attached.
    fn missing(&self, planned: &[Planned]) -> Vec<Refusal> {
        let began = Instant::now();
        loop {
            let missing = not_taken(&self.target.memory, self.target.bias, planned);
            if missing.is_empty() || began.elapsed() > TAKES_WITHIN {
                return missing;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn refused(Refusal { function, why }: Refusal) -> Note {
    Note::SiteRefused { function, why }
}

fn plan_call(site: &ProbeSite) -> Planned {
    let cookie = Cookie { shape: Shape::SampleBegin, flags: AT_CALL, slot: 0, probe: 0, place: 0 };
    Planned { site: site.clone(), cookie }
}

fn plan_object(site: &ProbeSite, at: Place) -> Planned {
    let cookie = Cookie { shape: Shape::SampleEnd, flags: 0, slot: 0, probe: 0, place: place(at) };
    Planned { site: site.clone(), cookie }
}
