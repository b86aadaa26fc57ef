//! `long_recording FILE RECORDS`: writes a recording as a long session under load might leave it, for `bench replay`.
//!
//! Of 200 records 187 are stacks new to the session, 16 frames deep on average, and 13 are readings: four each of GC
//! figures and of 67 size classes, two of goroutines in 20 groups, one of the process, one of counts in 100 rows,
//! one note. It names no function: naming is done once per report, not per record.
#![expect(clippy::print_stdout, reason = "it says what it wrote")]

use std::path::Path;
use std::time::Duration;

use tracer_user::capture::{NewFile, Recorder};
use tracer_user::record::facts::{Events, Links, Opening, Sampler, Subject};
use tracer_user::record::image::Image;
use tracer_user::record::note::EndedBy;
use tracer_user::record::reading::{
    AllocClass, AllocCount, Counts, Gc, GoState, GoroutineGroup, Goroutines, Process, SizeClass, SizeClasses,
};
use tracer_user::record::{Body, Counter, Event, Note, Reading, Readout, Record, Slot};
use tracer_user::units::{Bytes, Goid, ImageAddr, KTime, LoadBias, ProcAddr, StackId};

const ROUND: u64 = 200;
/// Bytes that may wait for the writer.
const QUEUE: usize = 4 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, count] = &arguments[..] else { panic!("say long_recording FILE RECORDS") };
    let count: u64 = count.parse().expect("a number of records");
    let file = NewFile::create(Path::new(file)).expect("the file can be written");
    let mut recorder =
        Recorder::start(file, Slot(0), &image(), std::iter::empty()).expect("a thread can be started");
    let mut numbers = Numbers(1);
    let mut written = 0;
    let mut put = |time: u64, body: Body| {
        recorder.record(&Record { slot: Slot(0), time: KTime(time), body });
        written += 1;
        // A session brings records over hours, this loop in seconds: the writer is waited for.
        while recorder.waiting() > QUEUE {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    put(1, Body::Note(Note::Opening(Box::new(opening()))));
    put(1, Body::Note(Note::Subject(Box::new(subject()))));
    for n in 0..count.saturating_sub(3) {
        let time = 1_000_000 + n * 10_000;
        put(time, body(n, time, &mut numbers));
    }
    put(2_000_000 + count * 10_000, Body::Note(Note::End(EndedBy::Duration)));
    recorder.close(Duration::from_mins(2));
    assert_eq!((recorder.failure(), recorder.unrecorded()), (None, 0), "all of it is in the file");
    println!("{written}");
}

/// A sequence that its seed alone decides (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 20
    }
    fn code(&mut self) -> ProcAddr {
        ProcAddr(0x40_1000 + self.next() % (8 << 20))
    }
}

fn body(n: u64, time: u64, numbers: &mut Numbers) -> Body {
    let round = n / ROUND;
    let readout = match n % ROUND {
        10 | 60 | 110 | 160 => gc(round as u32, round),
        11 | 61 | 111 | 161 => size_classes(round),
        20 | 120 => goroutines(numbers),
        30 => process(round),
        40 => counts(round),
        50 => return Body::Note(Note::Lost { counter: Counter::RingFull, count: round }),
        _ => {
            let depth = 8 + numbers.next() % 17;
            let frames = (0..depth).map(|_| numbers.code()).collect();
            return Body::Event(Event::Stack {
                id: StackId((numbers.next() << 20) + n),
                frames,
                truncated: false,
            });
        }
    };
    Body::Reading(Reading { from: KTime(time - 90_000), gc_cycle: Some(round as u32), readout })
}

fn gc(cycles: u32, round: u64) -> Readout {
    Readout::Gc(Gc {
        cycles,
        forced: 0,
        heap_marked: Bytes((80 << 20) + round * 4096),
        heap_live: Bytes((120 << 20) + round * 4100),
        goal: Some(Bytes(160 << 20)),
        in_use: Bytes(130 << 20),
        free: Bytes(30 << 20),
        released: Bytes(10 << 20),
        mapped_ready: Bytes(170 << 20),
        in_stacks: Bytes(2 << 20),
        gogc: 100,
        memory_limit: None,
        last_gc_unix_ns: Some(1_700_000_000_000_000_000 + round),
        new_pauses_ns: vec![40_000 + round % 1000],
        cpu_fraction: Some(0.01),
    })
}

fn size_classes(round: u64) -> Readout {
    let class = |n: u64| SizeClass {
        class: n as u8,
        size: Bytes(n * 16),
        allocs: 1_000_000 + round * n,
        frees: 900_000 + round * (n - 1),
    };
    Readout::SizeClasses(SizeClasses {
        small: (1..=67).map(class).collect(),
        large_allocs: 1000 + round,
        large_frees: 900 + round,
        large_alloc_bytes: Bytes((1000 + round) << 16),
        large_free_bytes: Bytes((900 + round) << 16),
        tiny_allocs: 5_000_000 + round,
    })
}

fn goroutines(numbers: &mut Numbers) -> Readout {
    let group = |n: u64| GoroutineGroup {
        created_at: Some(ProcAddr(0x41_0000 + n * 64)),
        entry: ProcAddr(0x42_0000 + n * 64),
        state: GoState::Waiting,
        wait: Some("chan receive".to_owned()),
        stack: (0..8).map(|depth| ProcAddr(0x43_0000 + n * 640 + depth * 64)).collect(),
        count: 1 + n,
        oldest_wait: Some(KTime(1)),
        examples: vec![Goid(n + 1), Goid(n + 1000)],
    };
    let groups = (0..20).map(group).collect();
    Readout::Goroutines(Goroutines { groups, total: 210 + numbers.next() % 3, ..Goroutines::default() })
}

fn process(round: u64) -> Readout {
    Readout::Process(Process {
        rss: Bytes((200 << 20) + round * 4096),
        rss_anon: Some(Bytes((180 << 20) + round * 4096)),
        rss_shmem: Some(Bytes(0)),
        cpu_s: round as f64 / 100.0,
        threads: 12,
    })
}

fn counts(round: u64) -> Readout {
    let row = |n: u64| AllocCount {
        stack: StackId((n << 40) + 77),
        type_addr: Some(ProcAddr(0x50_0000 + n * 64)),
        class: AllocClass::Small((n % 67) as u8 + 1),
        objects: round * (n + 1),
        requested: Bytes(round * (n + 1) * 40),
        rounded: Bytes(round * (n + 1) * 48),
    };
    Readout::Counts(Counts { allocs: (0..100).map(row).collect(), hits: vec![round], ..Counts::default() })
}

fn image() -> Image {
    Image {
        minor: 26,
        module: None,
        functions: ImageAddr(0),
        functions_len: 0,
        text: ImageAddr(0),
        inline_trees: ImageAddr(0),
        types_start: ImageAddr(0),
        types_end: ImageAddr(0),
    }
}

fn opening() -> Opening {
    Opening {
        tracer_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: "none".to_owned(),
        began_unix_ms: 0,
        sampler: Sampler::All,
        reason: "made for a benchmark".to_owned(),
        events: Events { alloc: true, map: false, goroutine: false },
        links: Links::Multi,
        copied: Bytes(0),
        profile: false,
    }
}

fn subject() -> Subject {
    Subject {
        pid: 1,
        exe: "/made/for/a/benchmark".to_owned(),
        build_id: None,
        go_version: "none".to_owned(),
        arch: "amd64".to_owned(),
        started_unix_ms: 0,
        stripped: false,
        pie: false,
        cgo: false,
        race: false,
        container: None,
        bias: LoadBias(0),
        code: None,
        gnu_build_id: None,
    }
}
