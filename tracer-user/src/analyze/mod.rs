//! Evidence -> [`Judgement`]: one rule per file, statistics apart, one finding per cause.
//!
//! Rules are plain functions without memory: what they know is in the evidence, time included. Each answers
//! [`Answer::Quiet`], [`Answer::Finding`] or [`Answer::NotYet`] and owns its sentences. Nothing here does I/O.

mod code;
pub mod figures;
mod group;
pub mod growth;
mod own;
pub mod rules;
mod shape;
pub mod stats;

use crate::sampling::Interval;
use crate::symbolize::evidence::{Cause, Evidence, Frame, Places};
pub use stats::Slope;

/// What a rule says about one subject.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// Enough was seen and nothing is wrong.
    Quiet,
    Finding(Box<Finding>),
    NotYet(NotYet),
}

/// How sure a finding is of its cause.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Grows, and what grows was followed.
    Leak,
    /// Grows, and this is the likely cause.
    Suspect,
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Leak => "leak",
            Verdict::Suspect => "suspect",
        }
    }
}

/// What a finding is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// An allocation site's id.
    Site(String),
    /// A goroutine creation site's id.
    GoroutineSite(String),
    /// A map's id.
    Map(String),
    /// A type, or several that cannot be told apart, where no site is known.
    Type(String),
    /// Objects of this many bytes, where neither is known; `None`: larger than any size class.
    SizeClass(Option<u64>),
}

impl Subject {
    fn key(&self) -> String {
        match self {
            Subject::Site(id) | Subject::GoroutineSite(id) | Subject::Map(id) | Subject::Type(id) => {
                id.clone()
            }
            Subject::SizeClass(Some(bytes)) => format!("class-{bytes}"),
            Subject::SizeClass(None) => "class-large".to_owned(),
        }
    }
}

/// Something that grows.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    pub rule: &'static str,
    pub verdict: Verdict,
    pub subject: Subject,
    pub title: String,
    /// The first frame that is the user's own.
    pub place: Option<Frame>,
    /// Where it is allocated or started, innermost first.
    pub stack: Vec<Frame>,
    /// Where the program's code makes it or writes to it, whoever did. Absent where nobody looked.
    pub code: Option<Places>,
    pub type_name: Option<String>,
    /// What lives of the type or of the site, where that is known.
    pub live: Option<Live>,
    pub cause: Option<Cause>,
    pub growth: Growth,
    /// 1 - p of the trend test: how unlikely chance is, not how likely this cause is.
    pub confidence: f64,
    pub evidence: Vec<String>,
    pub advice: String,
    /// Ids of findings that go with this one.
    pub related: Vec<String>,
}

impl Finding {
    /// Stable as long as the code does not move.
    pub fn id(&self) -> String {
        format!("{}:{}", self.rule, self.subject.key())
    }
}

/// What grows and how fast.
#[derive(Clone, PartialEq, Debug)]
pub enum Growth {
    /// Bytes per second of the live heap.
    Heap {
        slope: Slope,
        total: HeapTrend,
        parts: Vec<HeapPart>,
    },
    Goroutines(GoroutineGrowth),
    Map(MapGrowth),
}

/// The trend of the whole live heap.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HeapTrend {
    /// Bytes per second.
    pub slope: Slope,
    pub p: f64,
    pub cycles: u32,
    pub span_s: f64,
}

/// Something of the heap that grows.
#[derive(Clone, PartialEq, Debug)]
pub struct HeapPart {
    pub what: PartOf,
    /// Bytes per second.
    pub slope: Slope,
    pub objects_per_s: f64,
    /// Of the whole heap's growth.
    pub share: f64,
    pub first_bytes: u64,
    pub last_bytes: u64,
    /// The site itself; or those that allocate in the class, the likeliest first. Empty where sites are not known.
    pub candidates: Vec<Candidate>,
    /// How sites are known.
    pub sites: SitesBy,
    /// The types that grow in the class, the fastest first.
    pub types: Vec<TypeGrowth>,
}

/// What a part is.
#[derive(Clone, PartialEq, Debug)]
pub enum PartOf {
    /// Everything in one size class. `size` is bytes per object; absent for class 0.
    Class { class: u8, size: Option<u64> },
    /// What one site allocated and still lives.
    Site(Live),
}

/// How it is known which code allocates what grows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SitesBy {
    /// It is not.
    Nothing,
    /// By all allocations, each counted; which of them stay is inferred.
    Count,
    /// By a sample of objects that are followed to their end.
    Sample,
    /// By what moments showed in which the allocator was probed: so many, so many seconds in all.
    Windows { opened: u64, open_s: f64 },
}

/// A type that grows in a size class.
#[derive(Clone, PartialEq, Debug)]
pub struct TypeGrowth {
    /// Several where they cannot be told apart.
    pub names: Vec<String>,
    /// Bytes per second; absent where the class grows, most of it is of this type, and it is too early for more.
    pub slope: Option<Slope>,
    pub live: Live,
    /// Where the program's code allocates it.
    pub places: Option<Places>,
    /// How many are made in a second by the calls that are probed, each counted.
    pub made_per_s: Option<f64>,
}

/// What lives as of the newest GC cycle that was looked at, with one standard error of sampling.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Live {
    pub objects: f64,
    pub objects_stderr: f64,
    pub bytes: f64,
    pub bytes_stderr: f64,
    /// Absent where objects were counted, or looked at without being followed.
    pub within: Option<LiveWithin>,
}

/// The 95 % intervals of what lives, from a sample of objects that are followed one by one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LiveWithin {
    pub objects: Interval,
    pub bytes: Interval,
}

/// A site that allocates in a growing class.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    pub id: String,
    pub stack: Vec<Frame>,
    pub type_name: Option<String>,
    pub cause: Cause,
    /// Of the class's allocations since attach; of its growth, where objects are followed.
    pub share: f64,
    /// Allocated; kept, where objects are followed.
    pub objects_per_s: f64,
    /// What of it lives, where objects are followed.
    pub live: Option<Live>,
    /// What its share is made of, where windows showed it.
    pub seen: Option<Seen>,
}

/// Objects of a size class that windows showed and that were kept: so many of so many were of one call.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Seen {
    pub kept: u64,
    pub of: u64,
    /// Of the share, 95 %.
    pub within: Interval,
}

/// Goroutines of one creation site that grow in number.
#[derive(Clone, PartialEq, Debug)]
pub struct GoroutineGrowth {
    /// Goroutines per second.
    pub slope: Slope,
    pub count: u64,
    pub entry: String,
    pub wait: Option<String>,
    pub blocked_at: Vec<Frame>,
    pub oldest_wait_s: Option<f64>,
    /// Heap bytes per second that grow with them, where size classes or sites say so.
    pub heap: Option<Slope>,
}

/// A map that gets ever more entries.
#[derive(Clone, PartialEq, Debug)]
pub struct MapGrowth {
    /// Entries per second.
    pub slope: Slope,
    pub entries: u64,
    pub capacity: Option<u64>,
}

/// A rule cannot tell yet.
#[derive(Clone, PartialEq, Debug)]
pub struct NotYet {
    pub rule: &'static str,
    pub subject: Option<String>,
    pub reason: String,
    /// What would settle it.
    pub needs: String,
}

/// Grouped and ranked answers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Judgement {
    /// The surest and fastest first.
    pub findings: Vec<Finding>,
    pub undecided: Vec<NotYet>,
    /// Rules that saw enough and have nothing to say.
    pub quiet: Vec<&'static str>,
}

/// Asks every rule and puts what has one cause together.
pub fn judge(evidence: &Evidence) -> Judgement {
    let mut findings = Vec::new();
    let mut judgement = Judgement::default();
    for (name, rule) in rules::RULES {
        let answers = rule(evidence);
        if answers.iter().all(|a| *a == Answer::Quiet) {
            judgement.quiet.push(name);
        }
        for answer in answers {
            match answer {
                Answer::Quiet => {}
                Answer::Finding(f) => findings.push(*f),
                Answer::NotYet(n) => judgement.undecided.push(n),
            }
        }
    }
    judgement.findings = group::one_cause_one_finding(findings, evidence.module.as_deref());
    judgement
}

/// True where no rule waits for more data.
pub fn all_decided(judgement: &Judgement) -> bool {
    judgement.undecided.is_empty()
}

#[cfg(test)]
mod adversaries;
