//! Evidence -> [`Judgement`]: one rule per file, statistics apart, one finding per cause.
//!
//! Rules are plain functions without memory: what they know is in the evidence, time included. Each answers
//! [`Answer::Quiet`], [`Answer::Finding`] or [`Answer::NotYet`] and owns its sentences. Nothing here does I/O.

pub mod figures;
mod group;
mod own;
pub mod rules;
mod shape;
pub mod stats;

use crate::symbolize::evidence::{Cause, Evidence, Frame};
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
    /// Objects of this many bytes, where no site is known; `None`: larger than any size class.
    SizeClass(Option<u64>),
}

impl Subject {
    fn key(&self) -> String {
        match self {
            Subject::Site(id) | Subject::GoroutineSite(id) | Subject::Map(id) => id.clone(),
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
    pub type_name: Option<String>,
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
        parts: Vec<ClassGrowth>,
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

/// One size class that grows.
#[derive(Clone, PartialEq, Debug)]
pub struct ClassGrowth {
    pub class: u8,
    pub size: Option<u64>,
    /// Bytes per second.
    pub slope: Slope,
    pub objects_per_s: f64,
    /// Of the whole heap's growth.
    pub share: f64,
    pub first_bytes: u64,
    pub last_bytes: u64,
    /// Sites that allocate in the class, the likeliest first; empty where sites are not counted.
    pub candidates: Vec<Candidate>,
    /// True where allocations were counted at all.
    pub sites_counted: bool,
}

/// A site that allocates in a growing class.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    pub id: String,
    pub stack: Vec<Frame>,
    pub type_name: Option<String>,
    pub cause: Cause,
    /// Of the class's allocations since attach.
    pub share: f64,
    pub objects_per_s: f64,
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
