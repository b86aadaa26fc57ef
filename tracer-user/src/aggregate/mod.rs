//! Record -> [`Ledger`]: what is believed about one target.
//!
//! [`Ledger::apply`] is the only place where belief changes; everything behind it reads. Time is data: the
//! ledger's "now" is the newest record's time, and no figure changes because a clock went on. Every store has a
//! stated cap, and what a cap cut is counted. Records of different kinds that carry the same time may be
//! applied in any order: each kind has its own store. Nothing here names a frame, reads memory or judges.

pub mod call_sites;
pub mod census;
pub mod counts;
pub mod goroutines;
pub mod heap;
pub mod maps;
pub mod numbers;
pub mod pins;
pub mod process;
pub mod profile;
pub mod samples;
pub mod series;
pub mod session;
pub mod stacks;
pub mod windows;

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::record::note::{EndedBy, Probe};
use crate::record::{Body, Counter, Event, Note, Readout, Record, Slot};
use crate::units::{KTime, ProcAddr};

pub use call_sites::CallSiteStore;
pub use census::CensusHistory;
pub use counts::Tallies;
pub use goroutines::GoroutineHistory;
pub use heap::{GcHistory, SizeHistory};
pub use maps::MapHistories;
pub use pins::Pins;
pub use process::ProcessHistory;
pub use profile::ProfileHistory;
pub use samples::SampleStore;
pub use session::SessionFacts;
pub use stacks::Stacks;
pub use windows::Windows;

/// What a recording lacks may be in any figure.
pub const RECORDING_CUT: &str = "recording_cut";

/// Probes of one session: more than the kernel side has room for.
const MAX_PROBES: usize = 256;

/// Remarks (refused sites, failed readings) kept; later ones are counted only.
pub const MAX_REMARKS: usize = 64;

/// Something the session said that a reader of the report should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remark {
    /// A function goes unprobed.
    SiteRefused { function: String, why: String },
    /// The program is newer than the tracer.
    NewerGo { how: String },
    /// A kind of reading failed at least once.
    ReadingFailed { what: Cow<'static, str>, why: String },
    /// Probes on the calls that return to these addresses were taken away.
    Unpinned { calls: Vec<ProcAddr>, why: String },
    /// Probes of one kind were taken away for a while.
    Throttled { what: Cow<'static, str> },
    /// The process became another program.
    Replaced { why: String },
    /// The session's recording, or the one this was read from, lacks something.
    Recording { why: String },
}

/// Everything believed about one target.
#[derive(Clone, PartialEq, Debug)]
pub struct Ledger {
    slot: Slot,
    started: KTime,
    now: KTime,
    stacks: Stacks,
    tallies: Tallies,
    gc: GcHistory,
    sizes: SizeHistory,
    census: CensusHistory,
    goroutines: GoroutineHistory,
    maps: MapHistories,
    process: ProcessHistory,
    session: SessionFacts,
    profile: ProfileHistory,
    samples: SampleStore,
    call_sites: CallSiteStore,
    pins: Pins,
    windows: Windows,
    probes: Vec<Probe>,
    remarks: Vec<Remark>,
    remarks_cut: u64,
    ended: Option<EndedBy>,
    /// Losses as readings of the kernel's counters told them: cumulative.
    told: BTreeMap<Counter, u64>,
    /// Losses this ledger saw itself.
    seen: BTreeMap<Counter, u64>,
    misrouted: u64,
}

impl Ledger {
    /// An empty ledger for the target in `slot`, watched since `started`.
    pub fn new(slot: Slot, started: KTime) -> Self {
        Self {
            slot,
            started,
            now: started,
            stacks: Stacks::default(),
            tallies: Tallies::default(),
            gc: GcHistory::default(),
            sizes: SizeHistory::default(),
            census: CensusHistory::default(),
            goroutines: GoroutineHistory::default(),
            maps: MapHistories::default(),
            process: ProcessHistory::default(),
            session: SessionFacts::default(),
            profile: ProfileHistory::default(),
            samples: SampleStore::default(),
            call_sites: CallSiteStore::default(),
            pins: Pins::default(),
            windows: Windows::default(),
            probes: Vec::new(),
            remarks: Vec::new(),
            remarks_cut: 0,
            ended: None,
            told: BTreeMap::new(),
            seen: BTreeMap::new(),
            misrouted: 0,
        }
    }

    /// Believes one record. Never fails: what cannot be kept is counted.
    pub fn apply(&mut self, record: Record) {
        let Record { slot, time, body } = record;
        if slot != self.slot {
            self.misrouted += 1;
            return;
        }
        self.now = self.now.max(time);
        match body {
            Body::Event(Event::Stack { id, frames, truncated }) => {
                self.session.events += 1;
                if !self.stacks.add(id, frames, truncated) {
                    self.lose(Counter::StackTableFull, 1);
                }
            }
            Body::Event(Event::Sample(sample)) => {
                self.session.events += 1;
                if !self.samples.sample(time, &sample) {
                    self.lose(Counter::SampleUnfollowed, 1);
                }
            }
            Body::Reading(reading) => {
                let cycle = reading.gc_cycle;
                match reading.readout {
                    Readout::Gc(gc) => self.gc.apply(time, &gc),
                    Readout::SizeClasses(sizes) => self.sizes.apply(time, cycle, &sizes),
                    Readout::Census(census) => self.census.apply(time, census),
                    Readout::Goroutines(g) => {
                        self.goroutines.apply(time, &g);
                        self.lose(Counter::GoroutineTorn, g.skipped.saturating_sub(g.swapped));
                        self.lose(Counter::PageSwapped, g.swapped.saturating_add(g.stackless));
                    }
                    Readout::Waits(waits) => self.goroutines.waits(&waits),
                    Readout::Maps(maps) => self.maps.apply(time, &maps),
                    Readout::MapSearch(search) => self.maps.searched(search),
                    Readout::Process(p) => self.process.apply(time, &p, self.gc.newest()),
                    Readout::Profile(p) => self.profile.apply(time, p),
                    Readout::LiveSampled(live) => self.profile.lives(time, live),
                    Readout::Fates(fates) => self.samples.tell(time, &fates),
                    Readout::CallSites(sites) => self.call_sites.apply(sites),
                    Readout::Counts(counts) => {
                        self.tallies.apply(time, &counts);
                        for (counter, n) in &counts.losses {
                            let held = self.told.entry(*counter).or_default();
                            *held = (*held).max(*n);
                        }
                    }
                }
            }
            Body::Note(note) => self.note(&note),
        }
    }

    fn note(&mut self, note: &Note) {
        self.session.apply(note);
        match note {
            Note::Attached { probes } => self.probes.clone_from(probes),
            Note::SiteRefused { function, why } => {
                self.lose(Counter::SiteRefused, 1);
                self.remark(Remark::SiteRefused { function: function.clone(), why: why.clone() });
            }
            Note::SiteNotTaken { function, why } => {
                self.lose(Counter::SiteNotTaken, 1);
                self.remark(Remark::SiteRefused { function: function.clone(), why: why.clone() });
            }
            Note::NewerGo { how } => self.remark(Remark::NewerGo { how: how.clone() }),
            Note::ReadingFailed { what, why } => {
                self.lose(Counter::ReadingFailed, 1);
                self.remark(Remark::ReadingFailed { what: what.clone(), why: why.clone() });
            }
            Note::Replaced { why } => {
                self.lose(Counter::TargetReplaced, 1);
                self.remark(Remark::Replaced { why: why.clone() });
            }
            Note::Lost { counter, count } => {
                let held = self.told.entry(*counter).or_default();
                *held = (*held).max(*count);
            }
            Note::End(why) => self.ended = Some(*why),
            Note::Unrecorded { why, .. } => self.remark(Remark::Recording { why: why.clone() }),
            Note::RecordingCut { why } => {
                self.remark(Remark::Recording { why: why.clone() });
                self.ended.get_or_insert(EndedBy::RecordingCut);
            }
            Note::Sampling { mean } => self.samples.begin(*mean),
            Note::Pinned { calls, probes } => {
                self.add_probes(probes);
                self.pins.add(self.now, calls);
            }
            Note::Unpinned { probes, why } => {
                self.pins.end(self.now, probes);
                let of = self.pins.all().iter().filter(|pin| probes.contains(&pin.call.probe));
                let calls = of.map(|pin| pin.call.site.returns_to).collect();
                self.remark(Remark::Unpinned { calls, why: why.clone() });
            }
            Note::Window { probes, open_us, mean: _ } => {
                self.add_probes(probes);
                self.windows.add(*open_us);
            }
            Note::Throttled { what } => {
                self.lose(Counter::Throttled, 1);
                self.remark(Remark::Throttled { what: what.clone() });
            }
            Note::Resumed { .. }
            | Note::Overhead(_)
            | Note::Opening(_)
            | Note::Subject(_)
            | Note::Limit(_)
            | Note::Cost(_) => {}
        }
    }

    /// A recording may say what it likes.
    fn add_probes(&mut self, probes: &[Probe]) {
        let room = MAX_PROBES.saturating_sub(self.probes.len());
        self.probes.extend(probes.iter().take(room).cloned());
    }

    fn remark(&mut self, remark: Remark) {
        if self.remarks.contains(&remark) {
            return;
        }
        if self.remarks.len() >= MAX_REMARKS {
            self.remarks_cut += 1;
        } else {
            self.remarks.push(remark);
        }
    }

    fn lose(&mut self, counter: Counter, n: u64) {
        if n > 0 {
            let held = self.seen.entry(counter).or_default();
            *held = held.saturating_add(n);
        }
    }

    /// Every loss that is not 0. Where both the session's counters and the ledger saw a kind, the larger account
    /// is the better one: both may have seen the same loss.
    pub fn losses(&self) -> BTreeMap<Counter, u64> {
        let mut all = self.told.clone();
        for (counter, n) in &self.seen {
            let held = all.entry(*counter).or_default();
            *held = (*held).max(*n);
        }
        all.retain(|_, n| *n > 0);
        all
    }

    /// What this side's caps cut, by name; zeros left out.
    pub fn cuts(&self) -> BTreeMap<&'static str, u64> {
        self.every_cut().into_iter().filter(|(_, n)| *n > 0).collect()
    }

    /// The same, with those that are 0.
    pub(crate) fn every_cut(&self) -> [(&'static str, u64); 22] {
        [
            ("ledger_allocations_unlisted", self.tallies.allocs_unlisted().objects),
            ("ledger_map_calls_unlisted", self.tallies.map_calls_unlisted()),
            ("ledger_goroutines_unlisted", self.tallies.births_unlisted().created),
            ("ledger_goroutine_sites_cut", self.goroutines.sites_cut()),
            ("ledger_goroutine_groups_cut", self.goroutines.groups_cut()),
            ("goroutine_waits_cut", self.goroutines.waits_cut()),
            ("ledger_maps_cut", self.maps.cut()),
            ("map_search_unread", self.maps.search_unread()),
            ("map_search_cut", self.maps.search_cut()),
            ("ledger_pauses_cut", self.gc.pauses_cut()),
            ("ledger_size_classes_torn", self.sizes.torn()),
            ("ledger_types_cut", self.census.types_cut()),
            ("ledger_profile_cut", self.profile.cut()),
            ("ledger_profile_unfollowed", self.profile.unfollowed()),
            ("ledger_samples_unfollowed", self.samples.unfollowed()),
            ("ledger_sample_groups_cut", self.samples.groups_cut()),
            ("ledger_fates_misplaced", self.samples.misplaced()),
            ("ledger_call_sites_cut", self.call_sites.cut()),
            ("ledger_remarks_cut", self.remarks_cut),
            ("ledger_misrouted", self.misrouted),
            ("unrecorded", self.session.unrecorded()),
            (RECORDING_CUT, self.session.cut()),
        ]
    }

    pub fn started(&self) -> KTime {
        self.started
    }
    /// The newest record's time.
    pub fn now(&self) -> KTime {
        self.now
    }
    pub fn stacks(&self) -> &Stacks {
        &self.stacks
    }
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }
    pub fn gc(&self) -> &GcHistory {
        &self.gc
    }
    pub fn sizes(&self) -> &SizeHistory {
        &self.sizes
    }
    pub fn census(&self) -> &CensusHistory {
        &self.census
    }
    pub fn goroutines(&self) -> &GoroutineHistory {
        &self.goroutines
    }
    pub fn maps(&self) -> &MapHistories {
        &self.maps
    }
    pub fn process(&self) -> &ProcessHistory {
        &self.process
    }
    pub fn session(&self) -> &SessionFacts {
        &self.session
    }
    pub fn profile(&self) -> &ProfileHistory {
        &self.profile
    }
    pub fn samples(&self) -> &SampleStore {
        &self.samples
    }
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
    /// How often the allocator was probed for a moment, and for how long in all.
    pub fn windows(&self) -> Windows {
        self.windows
    }

    pub fn call_sites(&self) -> &CallSiteStore {
        &self.call_sites
    }
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }
    pub fn ended(&self) -> Option<EndedBy> {
        self.ended
    }
}

#[cfg(test)]
mod tests;
