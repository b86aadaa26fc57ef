//! A report as a pprof profile: what `go tool pprof` and the stores of profiles read.
//!
//! From the runtime's own memory profile it is what the target's own endpoint writes: Go's four sample types in Go's
//! order, each bucket scaled as runtime/pprof does. Where allocations were counted since attach, what lives is not
//! known: then the two inuse types are left out, for a 0 would be a lie. Writes no figure that the report has not.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use super::build::frame;
use super::folded::Profile as Wanted;
use super::model::{Frame, HeapProfile};
use super::pprof_proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::{Exporter, Report};
use crate::sampling::ByBytes;

/// A gzip'd profile.proto.
#[derive(Clone, Copy, Debug)]
pub struct Pprof {
    /// Goroutines, or the heap with this as the type that is shown first.
    pub profile: Wanted,
}

impl Exporter for Pprof {
    fn write(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let profile = profile(self.profile, report);
        let mut gzip = GzEncoder::new(out, Compression::default());
        gzip.write_all(&profile.encode_to_vec())?;
        gzip.finish()?.flush()
    }
}

/// The profile, not yet bytes.
fn profile(wanted: Wanted, report: &Report) -> Profile {
    let mut b = Builder::new(report);
    match (wanted, &report.heap_profile) {
        (Wanted::Goroutine, _) => b.goroutines(report),
        (_, Some(heap)) => b.heap(report, heap),
        (_, None) => b.counted(report),
    }
    if wanted != Wanted::Goroutine && b.kinds.contains(&wanted.name()) {
        b.profile.default_sample_type = b.text(wanted.name());
    }
    b.profile
}

/// A profile under construction: strings, functions and locations each once.
struct Builder {
    profile: Profile,
    /// Names of the sample types.
    kinds: Vec<&'static str>,
    strings: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
    locations: HashMap<(u64, Vec<Line>), u64>,
}

const AS_OF_GC: &str = "as of the last completed GC; what its sweep has not reached counts as in use";

/// The id of the only mapping.
const MAPPING: u64 = 1;

impl Builder {
    fn new(report: &Report) -> Self {
        let mut b = Self {
            profile: Profile::default(),
            kinds: Vec::new(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        b.text("");
        let code = report.target.code.clone().unwrap_or_default();
        let filename = b.text(&report.target.exe);
        // What the target's own profiles carry, so that theirs and ours are of one binary. Programs linked by Go
        // itself have none before 1.24; Go's own id is in the comment.
        let build_id = b.text(code.gnu_build_id.as_deref().unwrap_or(""));
        b.profile.mapping.push(Mapping {
            id: MAPPING,
            memory_start: code.start,
            memory_limit: code.limit,
            file_offset: code.file_offset,
            filename,
            build_id,
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        });
        let engine = format!("tracer {}: {}", report.tracer_version, report.session.sampler_reason);
        b.comment(&engine);
        if let Some(id) = &report.target.build_id {
            b.comment(&format!("build id {id}"));
        }
        if report.session.lower_bounds {
            b.comment("something was lost: totals are lower bounds");
        }
        b
    }

    fn comment(&mut self, words: &str) {
        let words = self.text(words);
        self.profile.comment.push(words);
    }

    /// Time of the figures, and what they are of.
    fn head(&mut self, report: &Report, kinds: &[(&'static str, &str)], period: (&str, &str, u64)) {
        if let Ok(began) = humantime::parse_rfc3339(&report.session.started_at) {
            let at = report.heap_profile.as_ref().map_or(report.session.duration_s, |p| p.t);
            let began = began.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
            self.profile.time_nanos = ((began + at) * 1e9) as i64;
        }
        for (name, unit) in kinds {
            self.kinds.push(name);
            let kind = ValueType { r#type: self.text(name), unit: self.text(unit) };
            self.profile.sample_type.push(kind);
        }
        let (name, unit, period) = period;
        self.profile.period_type = Some(ValueType { r#type: self.text(name), unit: self.text(unit) });
        self.profile.period = number(period);
    }

    fn heap(&mut self, report: &Report, heap: &HeapProfile) {
        let kinds = [
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ];
        let period = match (heap.sample_bytes, heap.sample_calls) {
            (Some(bytes), _) => ("space", "bytes", bytes),
            (None, calls) => ("calls", "count", calls.unwrap_or(1)),
        };
        self.head(report, &kinds, period);
        let comments: &[&str] = match (heap.as_of, heap.source) {
            ("now", "pins") => &[
                "what the probed calls allocated since they are probed; no GC has told yet what of it lives",
            ],
            (_, "pins") => {
                &["of what the probed calls allocated since they are probed, and of nothing else", AS_OF_GC]
            }
            ("now", "samples") => {
                &["sampled since attach; no GC has told yet what of it lives: all of it counts as in use"]
            }
            ("now", _) => &["no GC has run: everything allocated so far is in use"],
            (_, "samples") => {
                &["sampled since attach; what is not known to live counts as not in use", AS_OF_GC]
            }
            _ => &[AS_OF_GC],
        };
        for words in comments {
            self.comment(words);
        }
        let since = heap.allocated_since_gc;
        if since.objects > 0 {
            self.comment(&format!(
                "allocated since that GC, garbage included, and in no figure here: {} bytes in {} objects",
                since.bytes, since.objects
            ));
        }
        let places: Vec<_> = heap.samples.places.iter().map(|p| (p.address, frame(&p.frame))).collect();
        for sample in heap.samples.samples.iter() {
            let (allocs, live) = (sample.counts.allocs, sample.counts.live());
            if allocs == 0 && live == 0 {
                continue;
            }
            // runtime/pprof/protomem.go, scaleHeapSample: both figures are cut, not rounded.
            let scale = 1.0 / ByBytes { mean: sample.mean }.inclusion(sample.chosen_by);
            let scaled = |n: u64| {
                let scale = if scale.is_finite() { scale } else { 1.0 };
                let bytes = n.saturating_mul(sample.size);
                [(n as f64 * scale) as i64, (bytes as f64 * scale) as i64]
            };
            let stack = sample.stack.iter().filter_map(|i| places.get(*i as usize));
            let location_id = self.stack(stack.map(|(address, frame)| (*address, frame)));
            let mut label =
                vec![Label { key: self.text("bytes"), num: number(sample.size), ..Label::default() }];
            if let Some(name) = &sample.type_name {
                label.push(Label { key: self.text("type"), str: self.text(name), ..Label::default() });
            }
            label.extend(self.cause(sample.cause.name()));
            let value = [scaled(allocs), scaled(live)].concat();
            self.profile.sample.push(Sample { location_id, value, label });
        }
    }

    /// Allocations counted since attach.
    fn counted(&mut self, report: &Report) {
        self.comment("allocated since attach; what of it is still in use is not known");
        self.head(report, &[("alloc_objects", "count"), ("alloc_space", "bytes")], ("space", "bytes", 1));
        self.profile.duration_nanos = (report.session.duration_s * 1e9) as i64;
        for row in report.allocations.iter().flatten() {
            let location_id = self.stack(row.stack.iter().map(|f| (0, f)));
            let mut label = Vec::new();
            if let Some(name) = &row.type_name {
                label.push(Label { key: self.text("type"), str: self.text(name), ..Label::default() });
            }
            label.extend(self.cause(&row.cause));
            let value = vec![number(row.allocated.objects), number(row.allocated.bytes)];
            self.profile.sample.push(Sample { location_id, value, label });
        }
    }

    fn goroutines(&mut self, report: &Report) {
        self.head(report, &[("goroutine", "count")], ("goroutine", "count", 1));
        for site in report.goroutines.iter().flat_map(|g| &g.sites) {
            for group in &site.groups {
                let entry = Frame { function: group.entry.clone(), ..Frame::default() };
                let stack =
                    if group.stack.is_empty() { std::slice::from_ref(&entry) } else { &group.stack[..] };
                let location_id = self.stack(stack.iter().map(|f| (0, f)));
                let label =
                    vec![Label { key: self.text("state"), str: self.text(&group.state), ..Label::default() }];
                self.profile.sample.push(Sample { location_id, value: vec![number(group.count)], label });
            }
        }
    }

    /// Why it was allocated, where that is known.
    fn cause(&mut self, cause: &str) -> Option<Label> {
        (cause != "other").then(|| Label {
            key: self.text("cause"),
            str: self.text(cause),
            ..Label::default()
        })
    }

    /// Location ids of a stack, innermost first: frames that were inlined belong to the location of the function they
    /// are in, which follows them.
    fn stack<'f>(&mut self, frames: impl Iterator<Item = (u64, &'f Frame)>) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut open: Option<(u64, Vec<Line>)> = None;
        for (address, frame) in frames {
            let (_, lines) = open.get_or_insert((address, Vec::new()));
            lines.push(Line { function_id: self.function(frame), line: i64::from(frame.line) });
            if !frame.inlined {
                ids.extend(open.take().map(|location| self.location(location)));
            }
        }
        ids.extend(open.take().map(|location| self.location(location)));
        ids
    }

    fn location(&mut self, key: (u64, Vec<Line>)) -> u64 {
        if let Some(id) = self.locations.get(&key) {
            return *id;
        }
        let id = self.profile.location.len() as u64 + 1;
        let mapped = self
            .profile
            .mapping
            .first()
            .is_some_and(|m| key.0 == 0 || (m.memory_start..m.memory_limit).contains(&key.0));
        self.profile.location.push(Location {
            id,
            mapping_id: if mapped { MAPPING } else { 0 },
            address: key.0,
            line: key.1.clone(),
        });
        self.locations.insert(key, id);
        id
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let key = (frame.function.clone(), frame.file.clone());
        if let Some(id) = self.functions.get(&key) {
            return *id;
        }
        let id = self.profile.function.len() as u64 + 1;
        let (name, filename) = (self.text(&frame.function), self.text(&frame.file));
        self.profile.function.push(Function { id, name, system_name: name, filename, start_line: 0 });
        self.functions.insert(key, id);
        id
    }

    /// The index of a string.
    fn text(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
