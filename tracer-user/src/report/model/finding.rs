//! Findings in the model: what grows, where, how fast and why that is believed; and what cannot be told yet.

use serde::Serialize;

use super::{Frame, Growth};

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Site(String),
    GoroutineSite(String),
    Map(String),
    Type(String),
    /// Bytes per object; "large" above the classes.
    SizeClass(String),
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    pub id: String,
    pub rule: String,
    pub verdict: String,
    pub title: String,
    /// The page on this rule, in tracer's own documentation.
    pub url: String,
    pub subject: Subject,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub place: Option<Frame>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Of the type or of the site, as of the newest GC cycle that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_objects: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_objects_stderr: Option<f64>,
    /// The 95 % intervals of these, where objects were sampled one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_objects_low: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_objects_high: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes_stderr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes_low: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes_high: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutines_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries_per_s: Option<f64>,
    /// In the map, as of the newest reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    pub low: f64,
    pub high: f64,
    pub confidence: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_eta_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_wait_s: Option<f64>,
    /// Where it is allocated or started, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<Frame>,
    /// Where the program's code makes it or writes to it, whoever did; absent where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Vec<CodePlace>>,
    /// Places beyond those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_more: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_at: Vec<Frame>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub size_classes: Vec<GrowingClass>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<String>,
    pub evidence: Vec<String>,
    pub advice: String,
}

/// A call in the program's code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CodePlace {
    /// The function, and before it those that the compiler inlined into it there.
    pub stack: Vec<Frame>,
    pub cause: String,
}

/// A call in the program's code that is probed: it makes a type of which ever more lives.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Pinned {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// The function, and before it those that the compiler inlined into it there.
    pub stack: Vec<Frame>,
    pub cause: String,
    /// Since when it is probed, and until when.
    pub since_t: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_t: Option<f64>,
    /// How often it ran in that time: each time is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_s: Option<f64>,
    /// Mean calls between two whose objects are followed; 1: each is. Absent where none can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_calls: Option<u64>,
}

/// Moments in which the allocator was probed, to see who makes what grows.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Windows {
    pub opened: u64,
    pub open_s: f64,
    /// Of classes of which something was kept: those that keep most first, then those that make most; shares, not amounts.
    pub calls: Vec<WindowCall>,
}

/// What was seen of one call and one size class.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WindowCall {
    /// Bytes of an object; absent for large ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The stack that led to it most often, of those objects that were kept.
    pub stack: Vec<Frame>,
    pub cause: String,
    /// Objects that were followed, and those of them that two cycles at least found alive.
    pub sampled: u64,
    pub kept: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct GrowingClass {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The types that grow in it, the fastest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    pub growth: Growth,
    pub objects_per_s: f64,
    /// Of the whole heap's growth.
    pub share: f64,
    pub sites: Vec<ClassSite>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ClassSite {
    pub site: String,
    /// Of the class's allocations since attach.
    pub share: f64,
    pub objects_per_s: f64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Undecided {
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub reason: String,
    pub needs: String,
}
