//! Any bytes as what `diff` compares: a JSON report, or a pprof profile, gzip'd here where the first byte asks for it so
//! that the decoder behind it is reached.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use tracer_user::report::diff::Diff;
use tracer_user::report::diff_input::Input;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let input = if first % 2 == 0 {
        Input::read(rest)
    } else {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(rest).expect("a vector takes everything");
        Input::read(&gzip.finish().expect("a vector takes everything"))
    };
    if let Ok(input) = input {
        let diff = Diff::of(&[Input::default(), input]);
        diff.write_text(&mut std::io::sink()).expect("a sink takes everything");
        diff.write_json(&mut std::io::sink()).expect("a sink takes everything");
    }
});
