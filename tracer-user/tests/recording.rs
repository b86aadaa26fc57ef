//! A recording without a target: what goes in comes out, and any other bytes are refused or read as far as they go.

use std::io::Cursor;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tracer_user::capture::format::{self, BLOCK_HEAD, Kind};
use tracer_user::capture::{self, CaptureError, End, Item, NewFile, Recorder};
use tracer_user::record::call_sites::{CallSite, CallSites, SitesOf};
use tracer_user::record::census::{Amount, Candidate, Census, CensusClass, Population, Spans, TypeShare};
use tracer_user::record::facts::{
    CodeMapping, Cost, Events, Limit, Links, Opening, Overhead, Sampler, Subject,
};
use tracer_user::record::image::Image;
use tracer_user::record::note::{EndedBy, PinnedCall, Probe};
use tracer_user::record::profile::{Bucket, LiveRow, LiveSampled, Profile, Sampled};
use tracer_user::record::reading::{
    AllocClass, AllocCount, Counts, Gc, GoState, GoroutineCount, GoroutineGroup, Goroutines, MapCall,
    MapCallCount, MapSearch, MapState, Maps, Process, SharedStorage, SizeClass, SizeClasses,
};
use tracer_user::record::samples::{Born, Fates, Sample, SampleKey};
use tracer_user::record::waits::{SiteWaits, Waits};
use tracer_user::record::{Body, Counter, Event, Note, Reading, Readout, Record, Slot};
use tracer_user::session::{SessionError, replay};
use tracer_user::units::{Bytes, FileOffset, Goid, ImageAddr, KTime, LoadBias, ProcAddr, StackId};

const PATIENCE: Duration = Duration::from_secs(20);

/// A file that goes with its value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tracer-recording-{name}-{}", std::process::id())))
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn note(t: u64, note: Note) -> Record {
    Record { slot: Slot(0), time: KTime(t), body: Body::Note(note) }
}

fn read_out(t: u64, readout: Readout) -> Record {
    let reading = Reading { from: KTime(t - 5), gc_cycle: Some(3), readout };
    Record { slot: Slot(0), time: KTime(t), body: Body::Reading(reading) }
}

fn opening() -> Opening {
    Opening {
        tracer_version: "0.1.0".into(),
        kernel: "6.1.0".into(),
        began_unix_ms: 1_700_000_000_123,
        sampler: Sampler::All,
        reason: "every allocation counted, as asked for".into(),
        events: Events { alloc: true, map: false, goroutine: true },
        links: Links::Multi,
        copied: Bytes(12 << 10),
        profile: true,
    }
}

fn subject() -> Subject {
    Subject {
        pid: 4242,
        exe: "/srv/checkout".into(),
        build_id: Some("abc/def".into()),
        go_version: "go1.26.3".into(),
        arch: "amd64".into(),
        started_unix_ms: 1_699_999_000_000,
        stripped: true,
        pie: false,
        cgo: false,
        race: false,
        container: None,
        bias: LoadBias(0x10_0000),
        code: Some(CodeMapping {
            start: ProcAddr(0x50_0000),
            limit: ProcAddr(0x60_0000),
            file_offset: FileOffset(0x1000),
        }),
        gnu_build_id: Some("0badcafe".into()),
    }
}

/// A record of every kind there is.
fn every_kind() -> Vec<Record> {
    let stack =
        Event::Stack { id: StackId(7), frames: vec![ProcAddr(0x40_1000), ProcAddr(9)], truncated: true };
    let probe = Probe {
        function: "runtime.mallocgc".into(),
        address: ImageAddr(0x40_0000),
        file_offset: FileOffset(0x1000),
        offset: 6,
        instruction: "push".into(),
    };
    let gc = Gc {
        cycles: 4,
        forced: 1,
        heap_marked: Bytes(1 << 20),
        heap_live: Bytes(2 << 20),
        goal: None,
        in_use: Bytes(3 << 20),
        free: Bytes(4),
        released: Bytes(5),
        mapped_ready: Bytes(6),
        in_stacks: Bytes(7),
        gogc: -1,
        memory_limit: Some(Bytes(u64::MAX)),
        last_gc_unix_ns: Some(1),
        new_pauses_ns: vec![1, 100_000],
        cpu_fraction: Some(0.1 + 0.2),
    };
    let class = SizeClass { class: 5, size: Bytes(64), allocs: 10, frees: 3 };
    let sizes = SizeClasses {
        small: vec![class],
        large_allocs: 2,
        large_frees: 1,
        large_alloc_bytes: Bytes(1 << 17),
        large_free_bytes: Bytes(1 << 16),
        tiny_allocs: 9,
    };
    let group = GoroutineGroup {
        created_at: None,
        entry: ProcAddr(0x40_2000),
        state: GoState::Leaked,
        wait: Some("chan receive".into()),
        stack: vec![ProcAddr(0x40_2010)],
        count: 12,
        oldest_wait: Some(KTime(1)),
        examples: vec![Goid(1), Goid(u64::MAX)],
    };
    let goroutines = Goroutines { groups: vec![group], total: 13, skipped: 1, swapped: 0, stackless: 0 };
    let process = Process {
        rss: Bytes(1 << 22),
        rss_anon: Some(Bytes(1 << 21)),
        rss_shmem: None,
        cpu_s: 1.000_000_1,
        threads: 6,
    };
    let counts = Counts {
        allocs: vec![
            AllocCount {
                stack: StackId(7),
                type_addr: Some(ProcAddr(0x50_0000)),
                class: AllocClass::BelowTiny(2),
                objects: 3,
                requested: Bytes(30),
                rounded: Bytes(48),
            },
            AllocCount {
                stack: StackId(0),
                type_addr: None,
                class: AllocClass::Large,
                objects: 1,
                requested: Bytes(40_000),
                rounded: Bytes(40_960),
            },
        ],
        map_calls: vec![MapCallCount {
            stack: StackId(7),
            type_addr: ProcAddr(0x50_0040),
            map: ProcAddr(0xc000),
            call: MapCall::Delete,
            calls: 5,
        }],
        goroutines: vec![GoroutineCount { created_at: ProcAddr(0x40_3000), created: 4, ended: 2 }],
        hits: vec![4, 0],
        losses: Counter::ALL.into_iter().map(|counter| (counter, 1 + counter as u64)).collect(),
    };
    let map = MapState {
        address: ProcAddr(0xc000),
        type_addr: ProcAddr(0x50_0040),
        variable: Some(ProcAddr(0x60_0000)),
        seed: 77,
        entries: 1000,
        capacity: Some(2048),
        tombstones: None,
    };
    let amount = |objects, bytes| Amount { objects, bytes: Bytes(bytes) };
    let census = Census {
        cycle: 4,
        cycle_end: 5,
        classes: vec![CensusClass {
            class: 5,
            noscan: true,
            size: Some(Bytes(64)),
            spans: 3,
            survived: amount(100, 6_400),
            since: amount(1, 64),
        }],
        manual: Spans { spans: 9, bytes: Bytes(73_728) },
        user_arenas: Spans::default(),
        torn: 1,
        swapped: 2,
        unread: 3,
        types: Some(vec![TypeShare {
            class: 5,
            candidates: vec![Candidate { type_addr: ProcAddr(0x50_0080), array: true }],
            hits: 4,
            bytes: Bytes(256),
            looked_at: 16,
            of: amount(100, 6_400),
            population: Population::Survived,
        }]),
    };
    let maps = Maps { maps: vec![map], skipped: 2, beyond_cap: 3 };
    let sampled = |allocs, frees| Sampled { allocs, frees };
    let profile = Profile {
        rate: 524_288,
        cycle: 8,
        buckets: vec![Bucket {
            stack: vec![ProcAddr(0x40_1001), ProcAddr(0x40_2010)],
            size: Bytes(4096),
            published: sampled(12, 5),
            last_gc: sampled(2, 1),
            since_gc: sampled(3, 0),
        }],
        cut: true,
    };
    let live = LiveSampled {
        sampled: 40,
        looked_at: 20,
        torn: 1,
        swapped: 2,
        cut: true,
        rows: vec![LiveRow {
            bucket: 0,
            noscan: true,
            candidates: vec![Candidate { type_addr: ProcAddr(0x50_0180), array: false }],
            objects: 7,
            example: ProcAddr(0xc00_4000),
        }],
    };
    let key = |address, at| SampleKey { address: ProcAddr(address), at: KTime(at) };
    let sample = Sample {
        address: ProcAddr(0xc00_1000),
        stack: StackId(7),
        type_addr: Some(ProcAddr(0x50_0100)),
        class: AllocClass::BelowTiny(2),
        size: Bytes(12),
        g: ProcAddr(0xc00_0000),
        born: Some(Born { generation: 8, marking: true }),
        pin: Some(9),
    };
    let fates = Fates {
        cycle: 5,
        survived: vec![key(0xc00_1000, 13)],
        died: vec![key(0xc00_2000, 14)],
        unknown: vec![key(0xc00_3000, 15)],
        untold: 2,
    };
    let search = MapSearch {
        spans: Bytes(40 << 20),
        waiting: Bytes(24 << 20),
        unread: 1,
        beyond_cap: 2,
        shared: vec![SharedStorage {
            map: ProcAddr(0xc00_4000),
            types: vec![ProcAddr(0x50_0100), ProcAddr(0x50_0200)],
            more: 3,
        }],
    };
    let sites = CallSites {
        types: vec![SitesOf {
            type_addr: ProcAddr(0x50_0100),
            sites: vec![CallSite { returns_to: ProcAddr(0x40_1234), callee: ProcAddr(0x40_9000) }],
            more: 3,
        }],
        calls: 855,
        typed: 804,
        without_type: 20,
        undecoded: 1,
        unasked: 2,
    };
    let pinned = PinnedCall {
        type_addr: Some(ProcAddr(0x50_0100)),
        site: CallSite { returns_to: ProcAddr(0x40_1234), callee: ProcAddr(0x40_9000) },
        mean: 20,
        probe: 9,
    };
    let waits = Waits {
        sites: vec![SiteWaits {
            created_at: Some(ProcAddr(0x40_3000)),
            since: vec![(KTime(5), 3), (KTime(9), 1)],
        }],
        over: 2,
    };
    let mut records = vec![
        note(10, Note::Opening(Box::new(opening()))),
        note(10, Note::Subject(Box::new(subject()))),
        note(11, Note::Attached { probes: vec![probe.clone()] }),
        note(11, Note::SiteRefused { function: "a.b".into(), why: "it is short".into() }),
        note(11, Note::SiteNotTaken { function: "a.c".into(), why: "gone".into() }),
        Record { slot: Slot(0), time: KTime(12), body: Body::Event(stack) },
        Record { slot: Slot(0), time: KTime(13), body: Body::Event(Event::Sample(sample)) },
        read_out(20, Readout::Gc(gc)),
        read_out(21, Readout::SizeClasses(sizes)),
        read_out(22, Readout::Goroutines(goroutines)),
        read_out(23, Readout::Process(process)),
        read_out(24, Readout::Counts(counts)),
        read_out(24, Readout::Maps(maps)),
        read_out(24, Readout::Census(census)),
        read_out(24, Readout::Profile(profile)),
        read_out(24, Readout::Fates(fates)),
        read_out(24, Readout::Waits(waits)),
        read_out(24, Readout::LiveSampled(live)),
        read_out(24, Readout::MapSearch(search)),
        read_out(24, Readout::CallSites(sites)),
        note(25, Note::ReadingFailed { what: "goroutines".into(), why: "torn".into() }),
        note(26, Note::Replaced { why: "it executed itself".into() }),
        note(27, Note::Limit(Some(Limit { bytes: Bytes(1 << 30), used: Some(Bytes(1 << 29)) }))),
        note(27, Note::Cost(Cost { cpu_ns: 123_456_789, rss: Some(Bytes(9 << 20)) })),
        note(27, Note::NewerGo { how: "by trial".into() }),
        note(27, Note::Sampling { mean: 524_288 }),
        note(27, Note::Pinned { calls: vec![pinned], probes: vec![probe.clone()] }),
        note(27, Note::Unpinned { probes: vec![9], why: "too often".into() }),
        note(27, Note::Throttled { what: "map growth".into() }),
        note(27, Note::Resumed { what: "map growth".into() }),
        note(27, Note::Overhead(Box::new(overhead()))),
        note(27, Note::Window { probes: vec![probe], open_us: 20_123, mean: 640 }),
    ];
    records.extend(Counter::ALL.map(|counter| note(28, Note::Lost { counter, count: 3 })));
    records.extend([EndedBy::Duration, EndedBy::StopAll].map(|by| note(30, Note::End(by))));
    records
}

fn overhead() -> Overhead {
    Overhead {
        budget_ppm: 10_000,
        bounds_hits: true,
        elapsed_ns: 60_000_000_000,
        hits_ns: Some(123_456_789),
        readings_ns: 234_567_890,
        throttled_ns: 10_000_000_000,
        hit_costs: vec![("push".into(), 561), ("call".into(), 574)],
    }
}

fn image() -> Image {
    Image {
        minor: 26,
        module: Some("example.com/checkout".into()),
        functions: ImageAddr(0x60_0000),
        functions_len: 1000,
        text: ImageAddr(0x40_0000),
        inline_trees: ImageAddr(0x61_0000),
        types_start: ImageAddr(0x50_0000),
        types_end: ImageAddr(0x51_0000),
    }
}

/// Records `records` beside pieces of an image.
fn recorded(scratch: &Scratch, records: &[Record]) -> Vec<u8> {
    let file = NewFile::create(&scratch.0).unwrap();
    let parts = [(ImageAddr(0x60_0000), vec![1; 300]), (ImageAddr(0x61_0000), vec![2; 40])];
    let mut recorder = Recorder::start(file, Slot(0), &image(), parts.into_iter()).unwrap();
    recorder.piece(ImageAddr(0x50_0000), b"a type");
    for record in records {
        recorder.record(record);
    }
    recorder.close(PATIENCE);
    assert_eq!((recorder.failure(), recorder.unrecorded()), (None, 0));
    scratch.bytes()
}

/// What can be read of these bytes.
fn contents(bytes: &[u8]) -> (Vec<Record>, usize, Result<End, CaptureError>) {
    let (mut records, mut pieces) = (Vec::new(), 0);
    let end = capture::read(Cursor::new(bytes), |item| match item {
        Item::Record(record) => records.push(record),
        Item::Piece(_, _, bytes) => pieces += bytes.len(),
        Item::Image(slot, found) => assert_eq!((slot, found), (Slot(0), image())),
    });
    (records, pieces, end)
}

#[test]
fn every_record_comes_back_as_it_was() {
    let scratch = Scratch::new("whole");
    let records = every_kind();
    let (read, pieces, end) = contents(&recorded(&scratch, &records));
    assert_eq!(read, records);
    assert_eq!(pieces, 346);
    let end = end.unwrap();
    let closed = end.closed.unwrap();
    assert_eq!((closed.records, closed.unrecorded), (records.len() as u64, 0));
    assert_eq!((end.records, end.unknown), (records.len() as u64, 0));
}

/// What kinds of facts are called in recordings that exist. Whoever fails this moved a variant: new ones go to the
/// end, and what cannot be said that way raises the format's number.
#[test]
fn variants_keep_their_places() {
    let places = |record: &Record| {
        // Slot and time take one byte each here; then body, and what it says.
        let bytes = postcard::to_stdvec(record).unwrap();
        match record.body {
            // from, and the option with its cycle, come before what was read.
            Body::Reading(_) => (bytes[2], bytes[6]),
            Body::Event(_) | Body::Note(_) => (bytes[2], bytes[3]),
        }
    };
    let found: Vec<(u8, u8)> = every_kind().iter().map(places).collect();
    let mut expected = vec![
        (2, 7),
        (2, 8),
        (2, 0),
        (2, 1),
        (2, 2),
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
        (1, 4),
        (1, 5),
        (1, 6),
        (1, 7),
        (1, 8),
        (1, 9),
        (1, 10),
        (1, 11),
        (1, 12),
    ];
    expected.extend([
        (2, 3),
        (2, 4),
        (2, 9),
        (2, 10),
        (2, 13),
        (2, 14),
        (2, 15),
        (2, 16),
        (2, 17),
        (2, 18),
        (2, 19),
        (2, 20),
    ]);
    expected.extend(Counter::ALL.map(|_| (2, 5)));
    expected.extend([(2, 6), (2, 6)]);
    assert_eq!(found, expected);
}

/// The bytes of every kind of record, by their sum: a field that came, went or moved changes them.
#[test]
fn records_keep_their_form() {
    let bytes: Vec<u8> = every_kind().iter().flat_map(|r| postcard::to_stdvec(r).unwrap()).collect();
    assert_eq!(
        (bytes.len(), crc32fast::hash(&bytes)),
        FORM,
        "the form of records changed: raise capture's FORMAT"
    );
}

/// Of format 2; a counter that came is one more number, which an older reader says it does not know.
const FORM: (usize, u32) = (1213, 2_465_904_139);

#[test]
fn a_recording_that_was_cut_off_holds_what_was_whole() {
    let scratch = Scratch::new("cut");
    let records = every_kind();
    let bytes = recorded(&scratch, &records);
    let mut seen = 0;
    for len in 0..bytes.len() {
        let (read, _, end) = contents(&bytes[..len]);
        assert!(records.starts_with(&read), "{len} bytes");
        seen = seen.max(read.len());
        match end {
            Ok(end) => assert!(end.closed.is_none() && end.offset <= len as u64, "{len}: {end:?}"),
            Err(CaptureError::NotRecording) => assert!(len < 12, "{len}"),
            // Inside the head.
            Err(CaptureError::Damaged { offset, .. }) => assert!(offset == 0 && len < 30, "{len}"),
            Err(e) => panic!("{len}: {e}"),
        }
        // The same with zeros behind, as a file system leaves them after a crash: never more than was whole.
        let (zeroed, ..) = contents(&[&bytes[..len], &[0; 64]].concat());
        assert!(records.starts_with(&zeroed), "{len} bytes and zeros");
    }
    assert_eq!(seen, records.len());
}

#[test]
fn a_changed_byte_is_noticed_with_its_offset() {
    let scratch = Scratch::new("changed");
    let records = every_kind();
    let bytes = recorded(&scratch, &records);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x41;
        let (read, _, end) = contents(&changed);
        assert!(records.starts_with(&read));
        match end {
            Err(CaptureError::NotRecording) => assert!(at < 8, "{at}"),
            Err(CaptureError::Damaged { offset, .. }) => assert!(offset <= at as u64, "{at}: {offset}"),
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn what_a_newer_tracer_wrote_is_passed_over_and_counted() {
    let mut bytes = format::head("9.9.9");
    let mut raw = Vec::new();
    let known = postcard::to_stdvec(&note(1, Note::End(EndedBy::Signal))).unwrap();
    // A note of a kind that is not known, and a known one with more behind it.
    for record in [&known[..], &[0, 1, 2, 200, 1], &[&known[..], &[7]].concat()] {
        format::put_number(record.len() as u64, &mut raw);
        raw.extend(record);
    }
    bytes.extend(format::block(Kind::Records, &raw));
    let mut strange = format::block(Kind::Records, b"what is this");
    strange[0] = 77;
    let sum = crc32fast::hash(&strange[..16]);
    strange[16..20].copy_from_slice(&sum.to_le_bytes());
    bytes.extend(strange);
    let (records, _, end) = contents(&bytes);
    let end = end.unwrap();
    assert_eq!((records.len(), end.records, end.unknown, end.version.as_str()), (1, 3, 3, "9.9.9"));
    // Another format is refused by name.
    let mut other = format::head("9.9.9");
    other[8] = 99;
    let body = other.len() - 4;
    let sum = crc32fast::hash(&other[..body]);
    other[body..].copy_from_slice(&sum.to_le_bytes());
    let said = contents(&other).2.unwrap_err().to_string();
    assert!(said.contains("format 99 by tracer 9.9.9"), "{said}");
}

#[test]
fn a_queue_that_is_full_loses_records_and_says_so() {
    let scratch = Scratch::new("queue");
    let file = NewFile::create(&scratch.0).unwrap();
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    // The writer cannot come to the records before we let it.
    let parts = std::iter::once_with(move || {
        waits.recv().unwrap();
        (ImageAddr(0x60_0000), vec![1; 10])
    });
    let mut recorder = Recorder::start(file, Slot(0), &image(), parts).unwrap();
    let frames: Vec<ProcAddr> = (0..500_u64).map(|n| ProcAddr(0x40_0000 + (n << 20))).collect();
    let mut made = 0;
    while recorder.unrecorded() == 0 {
        let event = Event::Stack { id: StackId(made), frames: frames.clone(), truncated: false };
        recorder.record(&Record { slot: Slot(0), time: KTime(made), body: Body::Event(event) });
        made += 1;
        assert!(made < 1_000_000, "the queue has no bound");
    }
    go_on.send(()).unwrap();
    recorder.close(PATIENCE);
    assert_eq!(recorder.failure(), None);
    let (records, _, end) = contents(&scratch.bytes());
    let closed = end.unwrap().closed.unwrap();
    assert_eq!(closed.unrecorded, recorder.unrecorded());
    assert_eq!(records.len() as u64, closed.records);
    assert_eq!(closed.records + closed.unrecorded, made);
}

#[test]
fn a_record_that_no_block_holds_is_counted_and_the_others_stay() {
    let scratch = Scratch::new("large");
    let file = NewFile::create(&scratch.0).unwrap();
    let mut recorder = Recorder::start(file, Slot(0), &image(), std::iter::empty()).unwrap();
    let profile = |buckets: u64| {
        let bucket = |n: u64| Bucket {
            stack: (0..24).map(|frame| ProcAddr(0x40_0000 + ((n + frame) << 8))).collect(),
            size: Bytes(48),
            published: Sampled { allocs: n, frees: 0 },
            last_gc: Sampled::default(),
            since_gc: Sampled::default(),
        };
        let buckets = (0..buckets).map(bucket).collect();
        read_out(10, Readout::Profile(Profile { rate: 524_288, cycle: 1, buckets, cut: false }))
    };
    let (small, large) = (profile(2), profile(100_000));
    for record in [&small, &large, &small] {
        recorder.record(record);
    }
    recorder.close(PATIENCE);
    assert_eq!((recorder.failure(), recorder.unrecorded()), (None, 1));
    let (records, _, end) = contents(&scratch.bytes());
    assert_eq!(records, [small.clone(), small]);
    assert_eq!(end.unwrap().closed.unwrap().unrecorded, 1);
}

#[test]
fn a_name_that_others_prepared_is_refused() {
    let scratch = Scratch::new("there");
    let refused = |why: &str| {
        let said = NewFile::create(&scratch.0).unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    };
    std::fs::write(&scratch.0, "somebody's work").unwrap();
    refused("it exists and is no recording");
    assert_eq!(scratch.bytes(), b"somebody's work");
    std::fs::remove_file(&scratch.0).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", &scratch.0).unwrap();
    refused("it is a symbolic link");
    std::fs::remove_file(&scratch.0).unwrap();
    // What was never begun leaves nothing.
    drop(NewFile::create(&scratch.0).unwrap());
    assert!(!scratch.0.exists());
    // An earlier recording of our own is overwritten, and left alone until there is something to write.
    let bytes = recorded(&scratch, &every_kind());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&scratch.0).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o600);
    let held = NewFile::create(&scratch.0).unwrap();
    refused("another tracer writes to it");
    drop(held);
    assert_eq!(scratch.bytes(), bytes);
    assert_eq!(recorded(&scratch, &every_kind()), bytes);
}

#[test]
fn a_recording_without_a_session_is_refused() {
    for bytes in [format::head("0.1.0"), recorded(&Scratch::new("none"), &[note(1, Note::Limit(None))])] {
        match replay(Cursor::new(bytes)) {
            Err(SessionError::NothingRecorded { offset }) => assert!(offset > 0),
            other => panic!("{other:?}"),
        }
    }
}

/// Blocks with sound checksums around any bytes: what a checksum cannot keep out.
fn sealed(blocks: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = format::head("0.1.0");
    for (kind, raw) in blocks {
        let kind = [Kind::Image, Kind::Pieces, Kind::Records, Kind::End][usize::from(kind % 4)];
        bytes.extend(format::block(kind, raw));
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        drop(replay(Cursor::new(&bytes)));
        let mut behind_head = format::head("0.1.0");
        behind_head.extend(&bytes);
        drop(replay(Cursor::new(behind_head)));
    }

    #[test]
    fn any_blocks_are_accepted(
        blocks in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..400)), 0..12),
    ) {
        drop(replay(Cursor::new(sealed(&blocks))));
    }

    /// Records that were sound before some bytes changed, behind a sound session and a sound checksum.
    #[test]
    fn any_records_are_accepted(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..20)) {
        let mut raw = Vec::new();
        let mut changeable = 0;
        for record in every_kind() {
            let bytes = postcard::to_stdvec(&record).unwrap();
            format::put_number(bytes.len() as u64, &mut raw);
            raw.extend(bytes);
            if matches!(record.body, Body::Note(Note::Subject(_))) {
                changeable = raw.len();
            }
        }
        for (at, to) in changes {
            let at = changeable + usize::from(at) % (raw.len() - changeable);
            raw[at] = to;
        }
        let mut bytes = format::head("0.1.0");
        bytes.extend(format::block(Kind::Records, &raw));
        match replay(Cursor::new(bytes)) {
            Ok(told) => prop_assert_eq!(told.report.session.ended_by.is_some(), true),
            Err(SessionError::Capture(CaptureError::Damaged { .. })) => {}
            Err(e) => prop_assert!(false, "{}", e),
        }
    }
}

/// A few bytes that claim to be many: a block may grow to its cap and no further, and stays alone in memory.
#[test]
fn a_bomb_is_bounded() {
    let mut bytes = format::head("0.1.0");
    let block = format::block(Kind::Pieces, &vec![0; format::MAX_RAW]);
    assert!(block.len() < format::MAX_RAW / 50);
    for _ in 0..4 {
        bytes.extend(&block);
    }
    let began = Instant::now();
    drop(replay(Cursor::new(&bytes)));
    // Generous: without the cap on empty pieces and blocks this takes minutes.
    assert!(began.elapsed() < Duration::from_mins(1));
    // A block that unpacks to more than it says.
    let mut lying = format::block(Kind::Records, &vec![0; 100_000]);
    lying[8..12].copy_from_slice(&10_u32.to_le_bytes());
    let sum = crc32fast::hash(&lying[..16]);
    lying[16..20].copy_from_slice(&sum.to_le_bytes());
    let mut bytes = format::head("0.1.0");
    let offset = bytes.len() as u64;
    bytes.extend(lying);
    match contents(&bytes).2 {
        Err(CaptureError::Damaged { offset: found, what: "a block's length" }) => assert_eq!(found, offset),
        other => panic!("{other:?}"),
    }
    assert_eq!(BLOCK_HEAD, 20);
}
