//! A recording with several images: a program and its plugins, or what somebody made of that.

use std::io::Cursor;
use std::time::{Duration, Instant};

use tracer_user::capture::format::{self, Kind};
use tracer_user::record::facts::{Events, Links, Opening, Sampler, Subject};
use tracer_user::record::image::Image;
use tracer_user::record::{Body, Note, Record, Slot};
use tracer_user::session::replay;
use tracer_user::units::{Bytes, ImageAddr, KTime, LoadBias};

fn session() -> Vec<u8> {
    let opening = Opening {
        tracer_version: "0.1.0".into(),
        kernel: "6.1.0".into(),
        began_unix_ms: 0,
        sampler: Sampler::None,
        reason: String::new(),
        events: Events::default(),
        links: Links::None,
        copied: Bytes(0),
        profile: false,
    };
    let subject = Subject {
        pid: 1,
        exe: "/x".into(),
        build_id: None,
        go_version: "go1.26.3".into(),
        arch: "amd64".into(),
        started_unix_ms: 0,
        stripped: false,
        pie: false,
        cgo: true,
        race: false,
        container: None,
        bias: LoadBias(0),
        code: None,
        gnu_build_id: None,
    };
    let mut raw = Vec::new();
    for note in [Note::Opening(Box::new(opening)), Note::Subject(Box::new(subject))] {
        let record = Record { slot: Slot(0), time: KTime(1), body: Body::Note(note) };
        let bytes = postcard::to_stdvec(&record).unwrap();
        format::put_number(bytes.len() as u64, &mut raw);
        raw.extend(bytes);
    }
    format::block(Kind::Records, &raw)
}

fn image(functions_len: u64) -> Vec<u8> {
    let image = Image {
        minor: 26,
        module: None,
        functions: ImageAddr(0x60_0000),
        functions_len,
        text: ImageAddr(0x40_0000),
        inline_trees: ImageAddr(0x61_0000),
        types_start: ImageAddr(0x50_0000),
        types_end: ImageAddr(0x51_0000),
    };
    format::block(Kind::Image, &postcard::to_stdvec(&(Slot(0), image)).unwrap())
}

/// What a replay says of names.
fn remarks(images: &[u64]) -> Vec<String> {
    let mut bytes = format::head("0.1.0");
    bytes.extend(images.iter().flat_map(|len| image(*len)));
    bytes.extend(session());
    let told = replay(Cursor::new(bytes)).unwrap();
    told.report.session.remarks.into_iter().filter(|remark| remark.contains("names")).collect()
}

#[test]
fn plugins_without_their_names_are_counted() {
    let said = remarks(&[1000, 1000, 1000, u64::MAX]);
    assert!(said.iter().any(|remark| remark.contains("the names of its program")), "{said:?}");
    assert!(said.iter().any(|remark| remark.contains("the names of 3 plugins")), "{said:?}");
    assert!(!remarks(&[1000]).iter().any(|remark| remark.contains("plugins")));
}

/// Sixty-four are the most a session follows; a recording that says it has more is not believed.
#[test]
fn more_images_than_any_session_has_are_bounded() {
    let began = Instant::now();
    let said = remarks(&vec![255 << 20; 5000]);
    assert!(said.iter().any(|remark| remark.contains("the names of 64 plugins")), "{said:?}");
    // Generous: each of them in turn would take minutes.
    assert!(began.elapsed() < Duration::from_mins(1));
}
