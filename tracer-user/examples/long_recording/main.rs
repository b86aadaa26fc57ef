//! `long_recording FILE RECORDS`: writes a recording as a long session with `--sampler sampled` might leave it, for `bench replay`, reads it back, and
//! says how many records it has, and how many bytes of names. `long_recording --count FILE` says that of any recording.
//!
//! The program allocates a gibibyte a second, of which one object per 512 KiB is sampled, and collects four times a second. The
//! first 20 000 samples come with a stack each that is new to the session; after them a second of it is 2 025 records of which 1 991 are samples
//! and the others what a session reads at its cadence. It is believed in full: no record is lost, cut or misplaced but for pauses beyond what a
//! session keeps, and this is asserted. It names no function: naming is done once per report, not per record.
#![expect(clippy::print_stdout, reason = "it says what it wrote")]

mod objects;
mod readings;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use tracer_user::aggregate::Ledger;
use tracer_user::aggregate::heap::MAX_PAUSES;
use tracer_user::capture::{self, Item, NewFile, Recorder};
use tracer_user::record::facts::{Events, Links, Opening, Sampler, Subject};
use tracer_user::record::image::Image;
use tracer_user::record::note::EndedBy;
use tracer_user::record::{Body, Event, Note, Reading, Readout, Record, Slot};
use tracer_user::units::{Bytes, ImageAddr, KTime, LoadBias};

use objects::{MEAN, Objects};

/// Bytes that may wait for the writer.
const QUEUE: usize = 4 << 20;
/// Between two records of the middle of a session: 2 025 are a second.
const STEP_NS: u64 = 1_000_000_000 / SECOND;
const SECOND: u64 = 2_025;
/// Records of a quarter of a second: one collection of the target.
const CYCLE: u64 = SECOND / 4;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[..] {
        [_, flag, file] if flag == "--count" => {
            let (records, names) = read(file, |_| {});
            println!("{records} {names}");
        }
        [_, file, count] => {
            let told = write(file, count.parse().expect("a number of records"));
            let mut ledger = Ledger::new(Slot(0), KTime(0));
            let (found, names) = read(file, |record| ledger.apply(record));
            assert_eq!(found, told.records, "what was written is read");
            believed(&ledger, &told);
            println!("{found} {names}");
        }
        _ => panic!("say long_recording FILE RECORDS, or long_recording --count FILE"),
    }
}

/// What was written.
#[derive(Default)]
struct Told {
    records: u64,
    stacks: usize,
    samples: u64,
    pauses: u64,
    live: u64,
    dead: u64,
    fresh: u64,
}

/// How many records are in a recording, and how many bytes of names.
fn read(file: &str, mut see: impl FnMut(Record)) -> (u64, usize) {
    let from = BufReader::new(File::open(file).expect("the recording can be read"));
    let mut names = 0;
    let end = capture::read(from, |item| match item {
        Item::Record(record) => see(record),
        Item::Piece(_, _, bytes) => names += bytes.len(),
        Item::Image(..) => {}
    });
    (end.expect("it is a recording").records, names)
}

/// All of it is in the ledger, and nothing of it was lost on the way.
fn believed(ledger: &Ledger, told: &Told) {
    assert!(ledger.losses().is_empty(), "{:?}", ledger.losses());
    // Of the pauses the newest are kept: what a long session has more of is cut there as here, and counted.
    let older = told.pauses.saturating_sub(MAX_PAUSES as u64);
    let cuts: Vec<_> = ledger.cuts().into_iter().collect();
    let stated: Vec<_> = (older > 0).then_some(("ledger_pauses_cut", older)).into_iter().collect();
    assert_eq!(cuts, stated);
    assert_eq!(ledger.stacks().len(), told.stacks);
    let held = ledger.samples().groups();
    let sums =
        held.fold((0, 0, 0, 0), |s, (_, g)| (s.0 + g.taken, s.1 + g.live, s.2 + g.dead, s.3 + g.fresh));
    assert_eq!(sums, (told.samples, told.live, told.dead, told.fresh));
    assert!(ledger.samples().groups().all(|(group, _)| ledger.stacks().get(group.stack).is_some()));
    let Some((_, census)) = ledger.census().newest() else { panic!("there is no census") };
    let types = census.types.as_ref().map_or(0, Vec::len);
    assert_eq!(
        (types, ledger.census().followed().len()),
        (readings::TYPES as usize, readings::TYPES as usize)
    );
    assert_eq!(ledger.maps().maps().len(), readings::MAPS as usize);
    // Who takes samples does not read the runtime's own.
    assert!(ledger.profile().newest().is_none());
    assert_eq!(ledger.goroutines().sites().len(), readings::GROUPS as usize);
    assert!(ledger.goroutines().sites().keys().all(|site| !ledger.goroutines().waits_of(*site).is_empty()));
    assert!(ledger.tallies().read_at().is_some() && ledger.gc().newest().is_some());
}

fn write(file: &str, count: u64) -> Told {
    let file = NewFile::create(Path::new(file)).expect("the file can be written");
    let mut recorder =
        Recorder::start(file, Slot(0), &image(), std::iter::empty()).expect("a thread can be started");
    let mut told = Told::default();
    let mut objects = Objects::default();
    let mut put = |time: u64, body: Body| {
        recorder.record(&Record { slot: Slot(0), time: KTime(time), body });
        told.records += 1;
        // A session brings records over hours, this loop in seconds: the writer is waited for.
        while recorder.waiting() > QUEUE {
            std::thread::sleep(Duration::from_millis(1));
        }
        told.records
    };
    put(1, Body::Note(Note::Opening(Box::new(opening()))));
    put(1, Body::Note(Note::Subject(Box::new(subject()))));
    put(1, Body::Note(Note::Sampling { mean: MEAN }));
    let mut n = 0;
    let mut time = 1_000_000;
    loop {
        time += STEP_NS;
        // One turn is one record, or two where a sample comes with a stack: a session sends the stack first.
        let cycle = n / SECOND * 4 + (n % SECOND / CYCLE).min(3);
        let from = KTime(time - STEP_NS / 2);
        let mut reading =
            |readout| put(time, Body::Reading(Reading { from, gc_cycle: Some(cycle as u32), readout }));
        let written = match due(n) {
            Some(Due::Fates) => reading(Readout::Fates(objects.collect(cycle as u32))),
            Some(Due::Rest) => reading(Readout::Fates(objects.rest(cycle as u32))),
            Some(Due::Reading(read)) => reading(read(cycle)),
            None => {
                let (sample, stack) = objects.allocate(time);
                if let Some(stack) = stack {
                    put(time, Body::Event(stack));
                }
                put(time, Body::Event(Event::Sample(sample)))
            }
        };
        n += 1;
        // Whole seconds: every kind of reading is in it.
        if written + 1 >= count && n % SECOND == 0 {
            break;
        }
    }
    put(time + 1, Body::Note(Note::End(EndedBy::Duration)));
    recorder.close(Duration::from_mins(2));
    assert_eq!((recorder.failure(), recorder.unrecorded()), (None, 0), "all of it is in the file");
    objects.tell(&mut told);
    // One of each collection, of whole seconds; the first reading is what the others are compared with.
    told.pauses = n / SECOND * 4 - 1;
    told
}

/// What comes instead of a sample.
enum Due {
    /// What the collection that ended found.
    Fates,
    /// What it could not tell at first.
    Rest,
    Reading(fn(u64) -> Readout),
}

/// The cadence of a session with the default interval: GC figures and size classes ten times a second, all else once.
fn due(n: u64) -> Option<Due> {
    let at = n % SECOND;
    Some(match (at % CYCLE, at) {
        (3, _) if at < 4 * CYCLE => Due::Fates,
        (40, _) if at < 4 * CYCLE => Due::Rest,
        _ => Due::Reading(match (at % (SECOND / 10), at) {
            // The collections end at 3, 509, 1 015 and 1 521.
            (10, 10 | 616 | 1_020 | 1_626) => readings::gc_ended,
            (10, 0..2_020) => readings::gc,
            (11, 0..2_020) => readings::size_classes,
            (_, 20) => readings::process,
            (_, 21) => readings::counts,
            (_, 22) => readings::maps,
            (_, 23) => readings::goroutines,
            (_, 24) => readings::waits,
            (_, 30) => readings::census,
            _ => return None,
        }),
    })
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
        sampler: Sampler::Sampled,
        reason: "made for a benchmark".to_owned(),
        events: Events { alloc: true, map: true, goroutine: true },
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
