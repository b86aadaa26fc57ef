//! Records of every kind: what decodes of the input becomes a recording with right lengths and checksums, and that a
//! report in every format. Bytes that are no record are passed over one at a time.
#![no_main]

use std::io::{self, Cursor};

use libfuzzer_sys::fuzz_target;
use tracer_fuzz::reports;
use tracer_user::capture::format::{self, Kind};
use tracer_user::record::Record;
use tracer_user::session::replay;

/// Decoded from one input; each takes a few microseconds.
const MOST: usize = 400;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut raw = Vec::new();
    let mut put = |record: &[u8]| {
        format::put_number(record.len() as u64, &mut raw);
        raw.extend(record);
    };
    reports::opening().iter().for_each(|record| put(record));
    for _ in 0..MOST {
        if rest.is_empty() {
            break;
        }
        match postcard::take_from_bytes::<Record>(rest) {
            Ok((_, after)) if after.len() < rest.len() => {
                put(&rest[..rest.len() - after.len()]);
                rest = after;
            }
            _ => rest = &rest[1..],
        }
    }
    let mut recording = format::head("0");
    recording.extend(format::block(Kind::Records, &raw));
    let told = replay(Cursor::new(recording)).expect("it has a head and an opening");
    reports::write_all(&told.report, &mut io::sink());
});
