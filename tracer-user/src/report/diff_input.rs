//! What can be compared: a report of this tracer as JSON or as lines of it, or a pprof heap or goroutine profile of anybody.
//!
//! Foreign bytes: any are accepted without panic, in bounded time and memory; what is not one of these is refused in
//! one sentence. Reads by the names of the schema, so that a report of another version gives what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::time::{Duration, SystemTime};

use prost::Message as _;
use serde_json::Value;

use super::diff_lines;
use super::heap::class_words;
use super::model::{LINES_SCHEMA, SCHEMA};
use super::pprof_proto::{self as proto, Profile};
use crate::symbolize::{Frame, Line, is_of_the_runtime, outside_the_runtime, user_site};

/// Largest file. A JSON document takes about ten times its size as values.
pub const MAX_BYTES: u64 = 64 << 20;
/// Largest profile, unpacked: 100 000 samples have some 20 MiB. Decoded it takes 36 times as much at worst.
const MAX_UNPACKED: u64 = 32 << 20;
/// Longest name taken from a profile, in bytes: a small file can name one large text any number of times.
const MAX_NAME: usize = 4096;
/// Largest sum of the names of all rows of a profile.
const MAX_NAMES: usize = 256 << 20;
/// Frames looked at per stack of a profile.
const MAX_FRAMES: usize = 2048;

/// What is compared, in the order it is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Section {
    Totals,
    /// Live bytes by allocation site.
    Live,
    /// Bytes allocated per second, where what lives is not known.
    Allocated,
    Types,
    SizeClasses,
    Goroutines,
    /// As a profile has them: it does not say where they were started.
    GoroutineStacks,
    /// Entries, of the maps that a report lists.
    Maps,
}

/// One figure of a report.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Row {
    /// For people.
    pub name: String,
    /// The last parts of its id and its name, in bytes, where the type or the cause of an allocation are known: not every
    /// file knows them.
    type_len: usize,
    cause_len: usize,
    pub value: f64,
    pub variance: f64,
}

/// The process that a report is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    pub pid: u64,
    pub started: Option<SystemTime>,
}

impl Subject {
    /// Pids are used again, and each container has a 1.
    pub fn is(&self, other: &Self) -> bool {
        /// Both were told in whole seconds, from a clock that is set now and then.
        const APART: Duration = Duration::from_secs(2);
        let apart = |a: SystemTime, b: SystemTime| a.duration_since(b).unwrap_or_else(|e| e.duration());
        self.pid == other.pid && self.started.zip(other.started).is_none_or(|(a, b)| apart(a, b) <= APART)
    }
}

/// A report or a profile, as far as it can be compared. Rows are found by an id that stays the same.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Input {
    /// Its module, else the name of its file; not known of a profile.
    pub program: Option<String>,
    /// When the session began, RFC 3339 in UTC; not known of a profile.
    pub began: Option<String>,
    /// Of a profile: the file of its program and when it was taken, as far as it says.
    pub taken: Option<String>,
    /// The process; not known of a profile.
    pub process: Option<Subject>,
    /// Maps that are known by their address: in another process it is another's.
    pub by_address: BTreeSet<String>,
    pub sections: BTreeMap<Section, BTreeMap<String, Row>>,
}

/// Why something cannot be compared.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InputError {
    #[error("it is neither a JSON report of tracer nor a pprof profile: {0}")]
    Unknown(String),
    #[error("it says that its schema is {0}, and only {SCHEMA} and {LINES_SCHEMA} can be compared")]
    Schema(String),
    #[error("it is larger than {} MiB, or {} MiB unpacked", MAX_BYTES >> 20, MAX_UNPACKED >> 20)]
    TooLarge,
}

impl Input {
    /// Reads the bytes of a file.
    pub fn read(bytes: &[u8]) -> Result<Self, InputError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(InputError::TooLarge);
        }
        if bytes.starts_with(&[0x1f, 0x8b]) {
            return Self::pprof(bytes);
        }
        let wrong = |e| InputError::Unknown(format!("not JSON, {e}"));
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        if let Some(Ok(first)) = values.next()
            && first.get("schema").and_then(Value::as_str) == Some(LINES_SCHEMA)
        {
            return Self::report(&diff_lines::report(first, values)?);
        }
        Self::report(&serde_json::from_slice(bytes).map_err(wrong)?)
    }

    fn report(value: &Value) -> Result<Self, InputError> {
        match value.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => {}
            // Long or odd texts are not repeated.
            Some(other) => return Err(InputError::Schema(other.chars().take(40).collect())),
            None => return Err(InputError::Unknown("it has no schema".to_owned())),
        }
        let exe = text(value, "/target/exe").and_then(|exe| exe.rsplit('/').next());
        let mut input = Self {
            program: text(value, "/target/module").or(exe).map(str::to_owned),
            began: text(value, "/session/started_at").map(str::to_owned),
            process: value.pointer("/target/pid").and_then(Value::as_u64).map(|pid| Subject {
                pid,
                started: text(value, "/target/started_at").and_then(|s| humantime::parse_rfc3339(s).ok()),
            }),
            ..Self::default()
        };
        let number = |path: &str| value.pointer(path).and_then(Value::as_f64);
        for (name, path) in [
            ("live heap", "/heap/live_bytes"),
            ("RSS", "/process/rss_bytes"),
            ("goroutine stacks", "/process/go_stack_bytes"),
        ] {
            if let Some(bytes) = number(path) {
                input.add(Section::Totals, name, name.to_owned(), bytes, 0.0);
            }
        }
        for row in rows(value, "/allocations") {
            input.allocation(row, number("/session/duration_s"));
        }
        for row in rows(value, "/heap/types") {
            if let (Some(name), Some(bytes)) = (text(row, "/type"), float(row, "/bytes")) {
                let error = float(row, "/bytes_stderr").unwrap_or(0.0);
                input.add(Section::Types, name, name.to_owned(), bytes, error.powi(2));
            }
        }
        for row in rows(value, "/heap/size_classes") {
            let Some(bytes) = float(row, "/total_bytes") else { continue };
            let size = row.get("bytes").and_then(Value::as_u64);
            let noscan = row.get("noscan").and_then(Value::as_bool);
            let id = size.map_or("large".to_owned(), |size| format!("{size}"));
            let id = if noscan == Some(true) { format!("{id} noscan") } else { id };
            input.add(Section::SizeClasses, &id, class_words(size, noscan), bytes, 0.0);
        }
        for row in rows(value, "/goroutines/sites") {
            let (Some(id), Some(count)) = (text(row, "/site"), float(row, "/count")) else { continue };
            let name = text(row, "/created_by/function").or(text(row, "/entry")).unwrap_or(id);
            input.add(Section::Goroutines, id, name.to_owned(), count, 0.0);
        }
        for row in rows(value, "/maps") {
            let (Some(id), Some(entries)) = (text(row, "/id"), float(row, "/entries")) else { continue };
            let name = text(row, "/type").unwrap_or("a map of unknown type");
            if text(row, "/address").is_some_and(|address| id.ends_with(&format!("@{address}"))) {
                input.by_address.insert(id.to_owned());
            }
            input.add(Section::Maps, id, name.to_owned(), entries, 0.0);
        }
        Ok(input)
    }

    fn allocation(&mut self, row: &Value, duration_s: Option<f64>) {
        let Some(site) = text(row, "/site") else { return };
        let name = text(row, "/stack/0/function").unwrap_or("unknown stack");
        let details = Details {
            of_type: text(row, "/type"),
            // A profile has no word for it.
            cause: text(row, "/cause").filter(|cause| *cause != "other"),
        };
        let error = |path: &str| float(row, path).unwrap_or(0.0);
        if let Some(bytes) = float(row, "/live/bytes") {
            self.allocated(Section::Live, (site, name), details, bytes, error("/live/bytes_stderr").powi(2));
        } else if let (Some(bytes), Some(s)) =
            (float(row, "/allocated/bytes"), duration_s.filter(|s| *s > 0.0))
        {
            self.allocated(Section::Allocated, (site, name), details, bytes / s, 0.0);
        }
    }

    fn pprof(gzip: &[u8]) -> Result<Self, InputError> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(gzip)
            .take(MAX_UNPACKED + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| InputError::Unknown(format!("it does not unpack, {e}")))?;
        if bytes.len() as u64 > MAX_UNPACKED {
            return Err(InputError::TooLarge);
        }
        let profile = Profile::decode(&bytes[..])
            .map_err(|e| InputError::Unknown(format!("it is no profile.proto, {e}")))?;
        Self::profile(&profile)
    }

    fn profile(profile: &Profile) -> Result<Self, InputError> {
        let text = |index: i64| -> &str {
            let text = usize::try_from(index).ok().and_then(|i| profile.string_table.get(i));
            text.map_or("", |text| &text[..text.floor_char_boundary(MAX_NAME)])
        };
        let kind = |name: &str| profile.sample_type.iter().position(|t| text(t.r#type) == name);
        let wanted = [
            ("inuse_space", Section::Live),
            ("goroutine", Section::GoroutineStacks),
            ("alloc_space", Section::Allocated),
        ];
        let (index, section) =
            wanted.into_iter().find_map(|(name, section)| Some((kind(name)?, section))).ok_or_else(|| {
                InputError::Unknown("the profile has neither heap nor goroutine samples".into())
            })?;
        let seconds = profile.duration_nanos as f64 / 1e9;
        let scale = match section {
            Section::Allocated if seconds > 0.0 => 1.0 / seconds,
            Section::Allocated => {
                return Err(InputError::Unknown(
                    "the profile does not say over which time was counted".into(),
                ));
            }
            _ => 1.0,
        };
        let functions: BTreeMap<u64, &proto::Function> = profile.function.iter().map(|f| (f.id, f)).collect();
        let locations: BTreeMap<u64, &proto::Location> = profile.location.iter().map(|l| (l.id, l)).collect();
        let file = profile.mapping.first().map(|m| text(m.filename)).and_then(|path| path.rsplit('/').next());
        let at = u64::try_from(profile.time_nanos).ok().filter(|nanos| *nanos > 0).map(|nanos| {
            humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
                .to_string()
        });
        let taken: Vec<String> =
            file.filter(|file| !file.is_empty()).map(str::to_owned).into_iter().chain(at).collect();
        let taken = (!taken.is_empty()).then(|| taken.join("  "));
        let mut input = Self { taken, ..Self::default() };
        let mut names = 0;
        for sample in &profile.sample {
            let Some(value) = sample.value.get(index).filter(|value| **value != 0) else { continue };
            let mut frames = Vec::new();
            for line in sample.location_id.iter().filter_map(|id| locations.get(id)).flat_map(|l| &l.line) {
                let function = functions.get(&line.function_id);
                frames.push(Frame::from(Line {
                    function: function.map_or_else(String::new, |f| text(f.name).to_owned()),
                    line: u32::try_from(line.line).unwrap_or(0),
                    ..Line::default()
                }));
                if frames.len() >= MAX_FRAMES {
                    break;
                }
            }
            let goroutines = section == Section::GoroutineStacks;
            // Go's profile leaves them out, tracer's has them.
            if goroutines && is_of_the_runtime(&frames) {
                continue;
            }
            let (id, user) = user_site(frames);
            // All that wait are in the runtime.
            let named = if goroutines { outside_the_runtime(&user) } else { None };
            let name = named.or(user.first());
            let name = name.map_or("unknown stack", |f| f.function.as_str());
            let labels = sample.label.iter().filter(|l| l.str != 0);
            let of = |key: &str| labels.clone().find(|l| text(l.key) == key).map(|l| text(l.str));
            let details = Details { of_type: of("type"), cause: of("cause") };
            names += input.allocated(section, (&id, name), details, *value as f64 * scale, 0.0);
            if names > MAX_NAMES {
                return Err(InputError::TooLarge);
            }
        }
        // Nothing in use is a figure too.
        input.sections.entry(section).or_default();
        Ok(input)
    }

    /// A row of one site, with the details in its id and in its name; by how much all names became longer.
    fn allocated(
        &mut self,
        section: Section,
        (site, name): (&str, &str),
        details: Details<'_>,
        value: f64,
        variance: f64,
    ) -> usize {
        let Details { of_type, cause } = details;
        let detail: String =
            of_type.into_iter().chain(cause).fold(String::new(), |all, part| all + " " + part);
        let (id, name) = (format!("{site}{detail}"), format!("{name}{detail}"));
        let is_new = !self.sections.get(&section).is_some_and(|rows| rows.contains_key(&id));
        let len = id.len() + name.len();
        self.add(section, &id, name, value, variance);
        if let Some(row) = self.sections.get_mut(&section).and_then(|rows| rows.get_mut(&id)) {
            (row.type_len, row.cause_len) =
                (of_type.map_or(0, |t| t.len() + 1), cause.map_or(0, |c| c.len() + 1));
        }
        if is_new { len } else { 0 }
    }

    /// Whether any of its allocations says of what type it is, and whether any why it was made.
    pub(super) fn has_details(&self, section: Section) -> (bool, bool) {
        let rows = || self.sections.get(&section).into_iter().flat_map(BTreeMap::values);
        (rows().any(|row| row.type_len > 0), rows().any(|row| row.cause_len > 0))
    }

    /// The rows of a section, put together where they differ in what is left out.
    pub(super) fn with_details(&self, section: Section, types: bool, causes: bool) -> BTreeMap<String, Row> {
        let mut plain: BTreeMap<String, Row> = BTreeMap::new();
        for (id, row) in self.sections.get(&section).into_iter().flatten() {
            let kept = |text: &str| {
                let cause_at = text.len().saturating_sub(row.cause_len);
                let type_at = cause_at.saturating_sub(row.type_len);
                let of_type = if types { text.get(type_at..cause_at) } else { None };
                let cause = if causes { text.get(cause_at..) } else { None };
                [text.get(..type_at), of_type, cause].into_iter().flatten().collect::<String>()
            };
            let sum = plain.entry(kept(id)).or_default();
            sum.name = kept(&row.name);
            sum.value += row.value;
            sum.variance += row.variance;
        }
        plain
    }

    fn add(&mut self, section: Section, id: &str, name: String, value: f64, variance: f64) {
        if !value.is_finite() || !variance.is_finite() {
            return;
        }
        let row = self.sections.entry(section).or_default().entry(id.to_owned()).or_default();
        row.name = name;
        row.value += value;
        row.variance += variance;
    }
}

/// What is known of an allocation beside its site.
#[derive(Clone, Copy)]
struct Details<'t> {
    of_type: Option<&'t str>,
    cause: Option<&'t str>,
}

fn rows<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn text<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path).and_then(Value::as_str)
}

fn float(value: &Value, path: &str) -> Option<f64> {
    value.pointer(path).and_then(Value::as_f64)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = gzip(&vec![0; MAX_UNPACKED as usize + 1]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(Input::read(&bomb), Err(InputError::TooLarge));
    }

    /// One long name, and one stack that has it in each of its frames.
    #[test]
    fn a_name_that_a_small_profile_repeats_is_cut() {
        let long = "é".repeat(4 << 20);
        let profile = Profile {
            sample_type: vec![proto::ValueType { r#type: 1, unit: 0 }],
            string_table: vec![String::new(), "inuse_space".to_owned(), long, "type".to_owned()],
            function: vec![proto::Function { id: 1, name: 2, ..proto::Function::default() }],
            location: vec![proto::Location {
                id: 1,
                line: vec![proto::Line { function_id: 1, line: 1 }],
                ..proto::Location::default()
            }],
            sample: vec![proto::Sample {
                location_id: vec![1; MAX_FRAMES],
                value: vec![7],
                label: vec![proto::Label { key: 3, str: 2, ..proto::Label::default() }],
            }],
            ..Profile::default()
        };
        let input = Input::read(&gzip(&profile.encode_to_vec())).unwrap();
        let rows = &input.sections[&Section::Live];
        assert!(rows.iter().all(|(id, row)| id.len() <= 2 * MAX_NAME && row.name.len() <= 3 * MAX_NAME));
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn names_of_all_rows_together_are_bounded() {
        let sample = |n: i64| proto::Sample {
            location_id: Vec::new(),
            value: vec![1],
            label: vec![proto::Label { key: 2, str: n, ..proto::Label::default() }],
        };
        let names = MAX_NAMES / (2 * MAX_NAME) + 2;
        // They differ at their beginning; what is behind is cut.
        let texts = (0..names).map(|n| format!("{n:08}{}", "x".repeat(MAX_NAME)));
        let mut string_table = vec![String::new(), "inuse_space".to_owned(), "type".to_owned()];
        string_table.extend(texts);
        let all = string_table.len() as i64;
        let mut profile = Profile {
            sample_type: vec![proto::ValueType { r#type: 1, unit: 0 }],
            string_table,
            sample: (3..all).map(sample).collect(),
            ..Profile::default()
        };
        assert_eq!(Input::profile(&profile), Err(InputError::TooLarge));
        profile.sample.truncate(100);
        assert_eq!(Input::profile(&profile).unwrap().sections[&Section::Live].len(), 100);
    }

    #[test]
    fn a_report_with_fields_of_other_kinds_gives_what_it_has() {
        let report =
            br#"{"schema": "tracer.report/1", "allocations": [7, {"site": "a", "live": {"bytes": 9}},
            {"site": "b", "live": []}], "goroutines": {"sites": {"site": 1}}, "heap": {"live_bytes": "x"}}"#;
        let input = Input::read(report).unwrap();
        assert_eq!(input.sections.len(), 1, "{input:?}");
        assert!((input.sections[&Section::Live]["a"].value - 9.0).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000), packed: bool) {
            let bytes = if packed { gzip(&bytes) } else { bytes };
            if let Err(e) = Input::read(&bytes) {
                prop_assert!(!e.to_string().contains('\n'));
            }
        }
    }
}
