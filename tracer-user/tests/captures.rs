//! The committed recordings of tests/captures, replayed: the same bytes as were committed beside them, every time, and
//! nothing worse than a refusal once their bytes are changed. `cargo xtask captures` makes them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use tracer_user::capture::{self, CaptureError, Item};
use tracer_user::record::reading::Readout;
use tracer_user::record::{Body, Note, Record};
use tracer_user::report::folded::{Folded, Profile};
use tracer_user::report::{Exporter, Report, json::Json, pprof::Pprof, text::Text};
use tracer_user::session::{Replayed, SessionError, replay};

/// As many as `cargo xtask captures` makes.
const RECORDINGS: usize = 15;

fn recordings() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "trc"));
    files.sort();
    assert_eq!(files.len(), RECORDINGS);
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn replayed(bytes: &[u8]) -> Result<Replayed, SessionError> {
    replay(Cursor::new(bytes))
}

fn written(report: &Report, exporter: &dyn Exporter) -> Vec<u8> {
    let mut out = Vec::new();
    exporter.write(report, &mut out).unwrap();
    out
}

#[test]
fn every_recording_replays_to_the_bytes_of_its_session() {
    for (file, bytes) in recordings() {
        let name = file.display();
        let told = replayed(&bytes).unwrap();
        let json = fs::read(file.with_extension("json")).unwrap();
        assert!(written(&told.report, &Json) == json, "{name}: the JSON changed");
        let text = fs::read(file.with_extension("txt")).unwrap();
        assert!(written(&told.report, &Text) == text, "{name}: the text changed");
        let again = replayed(&bytes).unwrap();
        for profile in [Profile::InuseSpace, Profile::AllocSpace, Profile::AllocObjects, Profile::Goroutine] {
            let (folded, pprof) = (Folded { profile }, Pprof { profile });
            assert_eq!(written(&told.report, &pprof), written(&again.report, &pprof), "{name}");
            assert_eq!(written(&told.report, &folded), written(&again.report, &folded), "{name}");
        }
        assert_eq!(told.report, again.report, "{name}");
        // They are whole sessions, with names for what they saw.
        let session = &told.report.session;
        assert_eq!(session.ended_by.as_deref(), Some("duration"), "{name}");
        assert!(!session.counters.contains_key("recording_cut"), "{name}");
        assert!(told.records > 50, "{name}: {}", told.records);
        let sites = told.report.goroutines.iter().flat_map(|g| &g.sites);
        let named = sites.filter(|site| site.entry.contains('.')).count();
        assert!(named > 2, "{name}: goroutines have no names");
    }
}

/// One more with each that [`kind`] tells.
const KINDS: usize = 13;

fn kind(readout: &Readout) -> &'static str {
    match readout {
        Readout::Gc(_) => "gc",
        Readout::SizeClasses(_) => "size classes",
        Readout::Goroutines(_) => "goroutines",
        Readout::Process(_) => "process",
        Readout::Counts(_) => "counts",
        Readout::Maps(_) => "maps",
        Readout::Census(_) => "census",
        Readout::Profile(_) => "profile",
        Readout::Fates(_) => "fates",
        Readout::Waits(_) => "waits",
        Readout::LiveSampled(_) => "live sampled",
        Readout::MapSearch(_) => "map search",
        Readout::CallSites(_) => "call sites",
    }
}

#[test]
fn together_they_hold_every_reading_every_go_every_sampler_and_every_finding() {
    let (mut minors, mut samplers, mut findings) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut kinds = BTreeSet::new();
    for (_, bytes) in recordings() {
        capture::read(Cursor::new(&bytes), |item| {
            if let Item::Record(Record { body: Body::Reading(reading), .. }) = item {
                kinds.insert(kind(&reading.readout));
            }
        })
        .unwrap();
        let report = replayed(&bytes).unwrap().report;
        minors.insert(report.target.go_version.split('.').nth(1).unwrap().parse::<u32>().unwrap());
        samplers.insert(report.session.sampler);
        let cycles = report.gc.and_then(|gc| gc.cycles).unwrap_or(0);
        for finding in report.findings {
            // What a map or the heap is accused of has outlived collections.
            assert!(finding.rule == "goroutine-growth" || cycles >= 12, "{}: {cycles} cycles", finding.rule);
            findings.insert(finding.rule);
        }
    }
    assert_eq!(kinds.len(), KINDS, "{kinds:?}");
    assert!(minors.into_iter().eq(19..=27));
    assert!(samplers.into_iter().eq(["all", "none", "runtime", "sampled"]));
    assert!(findings.into_iter().eq(["goroutine-growth", "heap-growth", "map-growth"]));
}

#[test]
fn committed_recordings_name_no_machine() {
    for (file, bytes) in recordings() {
        let mut text = fs::read_to_string(file.with_extension("json")).unwrap();
        capture::read(Cursor::new(&bytes), |item| match item {
            Item::Piece(_, _, bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
            Item::Record(record) => {
                if let Body::Note(Note::Subject(subject)) = record.body {
                    text.push_str(&subject.exe);
                }
            }
            Item::Image(..) => {}
        })
        .unwrap();
        let checkout = env!("CARGO_MANIFEST_DIR").trim_end_matches("tracer-user");
        for path in ["/root/", "/home/", "/work/", "/Users/", "/usr/lib/go", "/go-build", checkout] {
            assert!(!text.contains(path), "{}: {path}", file.display());
        }
    }
}

/// A sequence that its seed alone decides (Knuth's MMIX constants).
struct Places(u64);

impl Places {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}

#[test]
fn a_damaged_or_shortened_recording_is_refused_or_says_so() {
    let mut places = Places(7);
    for (file, bytes) in recordings() {
        let name = file.display();
        let (mut refused, mut cut) = (0, 0);
        for _ in 0..20 {
            let mut changed = bytes.clone();
            let at = places.below(bytes.len());
            changed[at] ^= 1 << places.below(8);
            match replayed(&changed) {
                Err(SessionError::Capture(CaptureError::Damaged { offset, .. })) => {
                    assert!(offset <= at as u64, "{name}: byte {at}: {offset}");
                    refused += 1;
                }
                Err(SessionError::Capture(CaptureError::NotRecording)) => assert!(at < 8, "{name}: {at}"),
                other => panic!("{name}: byte {at}: {other:?}"),
            }
        }
        assert!(refused > 10, "{name}: {refused}");
        // Most of the cuts fall into the last bytes, where the records are: the names come first.
        for round in 0..24 {
            let within = if round < 8 { bytes.len() } else { 8 << 10 };
            let len = bytes.len() - 1 - places.below(within);
            match replayed(&bytes[..len]) {
                Ok(told) => {
                    let session = &told.report.session;
                    let text = String::from_utf8(written(&told.report, &Text)).unwrap();
                    // The end is one thing that is missing; the names of a plugin, which come between records, are another.
                    let lacking =
                        1 + u64::from(session.remarks.iter().any(|r| r.contains("lacks the names of")));
                    assert_eq!(session.counters.get("recording_cut"), Some(&lacking), "{name}: {len}");
                    assert!(session.lower_bounds, "{name}: {len}");
                    assert!(text.contains("note: the recording ends early, behind offset"), "{name}: {text}");
                    cut += usize::from(session.ended_by.as_deref() == Some("recording-cut"));
                }
                Err(SessionError::NothingRecorded { offset }) => {
                    assert!(offset <= len as u64, "{name}: {len}");
                }
                Err(SessionError::Capture(CaptureError::NotRecording | CaptureError::Damaged { .. })) => {
                    assert!(len < 30, "{name}: {len}");
                }
                Err(e) => panic!("{name}: {len}: {e}"),
            }
        }
        assert!(cut > 0, "{name}: {cut}");
        // A last byte less is a session that was cut off at the last moment.
        let last = replayed(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(last.report.session.ended_by.as_deref(), Some("duration"), "{name}");
        assert!(last.report.session.counters.contains_key("recording_cut"), "{name}");
    }
}
