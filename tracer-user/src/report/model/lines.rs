//! The lines of a session told as it goes. Apart from the report because it is a schema of its own, made of the
//! report's rows; never a figure that the report has not.

use serde::Serialize;

use super::{
    Allocation, Finding, GoroutineSite, HeapCensus, HeapPoint, HeapProfile, HeapType, MapRow, MapSearch,
    ProcessPoint, Session, SizeClass, Target, Undecided,
};

pub const LINES_SCHEMA: &str = "tracer.lines/1";

/// One line of a session told as it goes, schema `tracer.lines/1`. `t` is seconds since the session's start.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line<'a> {
    /// The first line.
    Session {
        schema: &'static str,
        tracer_version: &'a str,
        kernel: &'a str,
        target: &'a Target,
        session: &'a Session,
    },
    /// The live heap after one GC cycle.
    Heap(HeapPoint),
    Process(ProcessPoint),
    Goroutines {
        t: f64,
        live: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        created: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ended: Option<u64>,
    },
    /// A finding, when it is first made and at the end.
    Finding {
        t: f64,
        finding: &'a Finding,
    },
    /// What could not be decided by the end.
    Undecided {
        t: f64,
        undecided: &'a Undecided,
    },
    /// The rows of the end.
    SizeClass {
        t: f64,
        size_class: &'a SizeClass,
    },
    HeapCensus {
        t: f64,
        heap_census: &'a HeapCensus,
    },
    HeapType {
        t: f64,
        heap_type: &'a HeapType,
    },
    Allocation {
        t: f64,
        allocation: &'a Allocation,
    },
    HeapProfile {
        t: f64,
        heap_profile: &'a HeapProfile,
    },
    GoroutineSite {
        t: f64,
        goroutine_site: &'a GoroutineSite,
    },
    Map {
        t: f64,
        map: &'a MapRow,
    },
    MapSearch {
        t: f64,
        map_search: MapSearch,
    },
    /// The last line: without it the session did not come to its end.
    End {
        t: f64,
        session: &'a Session,
    },
}
