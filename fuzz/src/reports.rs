//! Reports in every format, and the two records that every session begins with.

use std::io::Write;

use tracer_user::record::facts::{Events, Links, Opening, Sampler, Subject};
use tracer_user::record::{Body, Note, Record, Slot};
use tracer_user::report::diff::Diff;
use tracer_user::report::diff_input::Input;
use tracer_user::report::folded::{Folded, Profile};
use tracer_user::report::goroutines::GoroutineText;
use tracer_user::report::heap::HeapText;
use tracer_user::report::json::Json;
use tracer_user::report::jsonl::Lines;
use tracer_user::report::pprof::Pprof;
use tracer_user::report::text::Text;
use tracer_user::report::{Exporter, Report};
use tracer_user::units::{Bytes, KTime, LoadBias};

/// The opening and the subject, as a recording holds them.
pub fn opening() -> [Vec<u8>; 2] {
    let opening = Opening {
        tracer_version: "0".into(),
        kernel: "6".into(),
        began_unix_ms: 1_700_000_000_000,
        sampler: Sampler::All,
        reason: String::new(),
        events: Events { alloc: true, map: true, goroutine: true },
        links: Links::Multi,
        copied: Bytes(4096),
        profile: true,
    };
    let subject = Subject {
        pid: 7,
        exe: "/x".into(),
        build_id: None,
        go_version: "go1.26.8".into(),
        arch: "amd64".into(),
        started_unix_ms: 1,
        stripped: false,
        pie: false,
        cgo: false,
        race: false,
        container: None,
        bias: LoadBias(0),
        code: None,
        gnu_build_id: None,
    };
    [Note::Opening(Box::new(opening)), Note::Subject(Box::new(subject))].map(|note| {
        let record = Record { slot: Slot(0), time: KTime(1_000_000), body: Body::Note(note) };
        postcard::to_stdvec(&record).expect("a vector takes everything")
    })
}

/// Every format, and the difference to nothing. What is said to be written must be.
pub fn write_all(report: &Report, out: &mut dyn Write) {
    let profiles = [
        Profile::InuseSpace,
        Profile::InuseObjects,
        Profile::AllocSpace,
        Profile::AllocObjects,
        Profile::Goroutine,
    ];
    let mut write = |exporter: &dyn Exporter| exporter.write(report, out).expect("a sink takes everything");
    write(&Text);
    write(&GoroutineText);
    write(&HeapText { by: tracer_user::report::heap::By::Type });
    write(&HeapText { by: tracer_user::report::heap::By::Size });
    for profile in profiles.into_iter().filter(|profile| profile.is_in(report).is_ok()) {
        write(&Folded { profile });
        write(&Pprof { profile });
    }
    let mut json = Vec::new();
    Json.write(report, &mut json).expect("a vector takes everything");
    let mut lines = Lines::default();
    lines.write(report, false, out).expect("a sink takes everything");
    lines.write(report, true, out).expect("a sink takes everything");
    // Our own reports are read again.
    let own = Input::read(&json).unwrap_or_else(|e| panic!("our own report is refused: {e}"));
    Diff::of(&[own.clone(), own]).write_text(out).expect("a sink takes everything");
}
