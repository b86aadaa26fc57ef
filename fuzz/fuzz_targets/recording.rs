//! Any bytes as a recording, and any bytes inside blocks whose checksums are right, replayed into a report.
//! Start it from tests/captures.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tracer_user::capture::format::{self, Kind};
use tracer_user::report::{Exporter, json::Json, text::Text};
use tracer_user::session::replay;

/// Bytes cut into blocks: a kind, a length, and so many bytes each.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = format::head("0");
    while let [kind, low, high, rest @ ..] = bytes {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let kinds = [Kind::Image, Kind::Pieces, Kind::Records, Kind::End];
        out.extend(format::block(kinds[usize::from(*kind) % 4], &rest[..len]));
        bytes = &rest[len..];
    }
    out
}

fuzz_target!(|bytes: &[u8]| {
    for recording in [bytes.to_vec(), sealed(bytes)] {
        if let Ok(told) = replay(Cursor::new(recording)) {
            let mut out = Vec::new();
            Text.write(&told.report, &mut out).expect("a Vec takes everything");
            Json.write(&told.report, &mut out).expect("a Vec takes everything");
        }
    }
});
