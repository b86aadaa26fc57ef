//! The memory of a real process with some words changed: the census of its heap, with the types of its file.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tracer_fuzz::patch::Changed;
use tracer_fuzz::process;
use tracer_user::goruntime::GoImage;
use tracer_user::goruntime::heap::census::{self, Also, HeapShape, Limits, Read};
use tracer_user::goruntime::heap::map_headers::Look;
use tracer_user::goruntime::heap::typing::Types;
use tracer_user::goruntime::names::type_table::TypeTable;
use tracer_user::goruntime::state::maps::MapKind;
use tracer_user::units::{LoadBias, ProcAddr};

/// The types of each program, as its file has them.
fn types() -> &'static [Types; 2] {
    static ALL: OnceLock<[Types; 2]> = OnceLock::new();
    ALL.get_or_init(|| {
        process::all().each_ref().map(|process| {
            let file = Box::new(Changed::file(&process.base));
            let image = GoImage::open(file, process.base.file_len).expect("nothing was changed");
            let table = TypeTable::read(&image).expect("nothing was changed");
            assert!(table.shapes() > 100);
            Types { table, bias: LoadBias(process.base.bias), texts: vec![image.module().text] }
        })
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, patches)) = process::changes(bytes) else { return };
    let process = &process::all()[which];
    let mut memory = Changed::memory(&process.base);
    memory.apply(&patches);
    let shape = HeapShape { inline_marks: process.base.inline_marks };
    let limits = Limits { spans: 4_000, index: 4_000 };
    // Types are most of the time it takes: one half of the inputs goes without.
    let types = (bytes[0] & 2 == 0).then(|| &types()[which]);
    let kind = if which == 0 { MapKind::Buckets } else { MapKind::Swiss };
    let also = Also { maps: Some(Look { kind, from: ProcAddr(0) }), profile: process.profile.as_ref() };
    if let Ok(Read { census: found, sampled, .. }) =
        census::read_all(&memory, &process.state, shape, types, also, limits)
    {
        if let Some(Ok((profile, live))) = sampled {
            assert!(live.looked_at <= live.sampled);
            assert!(live.rows.iter().all(|row| (row.bucket as usize) < profile.buckets.len()));
            assert!(live.rows.iter().map(|row| row.objects).sum::<u64>() <= live.looked_at);
        }
        let spans: u64 = found.classes.iter().map(|class| class.spans).sum();
        assert!(spans + found.torn + found.swapped <= limits.spans as u64);
        for share in found.types.iter().flatten() {
            assert!(share.hits <= share.looked_at);
        }
        // A base has the pages that say the types of small objects, which each release keeps elsewhere.
        if patches.is_empty() && types.is_some() {
            let small = |class: u8| (1..=24).contains(&class);
            let hits: u64 = found
                .types
                .iter()
                .flatten()
                .filter(|s| small(s.class) && !s.candidates.is_empty())
                .map(|s| s.hits)
                .sum();
            assert!(hits > 100, "{hits} small objects of known types");
        }
    }
});
