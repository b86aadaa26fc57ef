//! Reports of a heap known by samples: rows, errors, and what exporters make of them.

use super::*;

/// A bucket of the runtime's own profile: 12 sampled objects of 4 KiB of which 5 were freed, by one inlined and one
/// ordinary function.
pub(in crate::report) fn sampled() -> Report {
    use crate::record::profile::Sampled;
    use crate::sampling::ByBytes;
    use crate::symbolize::profile::{
        Amounts, HeapProfile, LiveLook, LiveType, Place, ProfileSite, ProfileSource, Sample, SiteAmounts,
    };
    let design = ByBytes { mean: 524_288 };
    let amounts = |n| {
        let objects = design.objects(n, 4096);
        Amounts { objects, bytes: objects.times(4096.0) }
    };
    let site = SiteAmounts {
        live: amounts(7),
        allocated: amounts(12),
        freed: amounts(5),
        since_gc: amounts(0),
        unknown: amounts(0),
    };
    let inlined = Line { inlined: true, ..(*frame("main.grow", "cache.go", 12)).clone() }.into();
    let stack = vec![inlined, frame("main.(*Cache).Put", "cache.go", 42)];
    let place = |address, frame: &Frame| Place { address, frame: frame.clone() };
    let mut evidence = evidence();
    evidence.allocations = None;
    evidence.profile = Some(HeapProfile {
        source: ProfileSource::Runtime,
        rate: design.mean,
        former_rate: None,
        read_at_s: 130.0,
        collected: true,
        cut: false,
        sites: vec![ProfileSite {
            id: "0123456789ab".into(),
            stack: stack.clone(),
            type_name: None,
            cause: Cause::MakeSlice,
            amounts: site,
            live_type: None,
            live_types: vec![LiveType {
                noscan: true,
                objects: 7,
                example: 0xc00_0123_4000,
                ..LiveType::default()
            }],
            samples: 12,
            sizes: vec![(4096, 1542)],
            ages: Vec::new(),
            points: Vec::new(),
        }],
        total: site,
        live_look: Some(LiveLook { found: 7, looked_at: 7, ..LiveLook::default() }),
        samples: Arc::new(vec![Sample {
            stack: Arc::new([0, 1]),
            type_name: None,
            cause: Cause::MakeSlice,
            size: 4096,
            chosen_by: 4096,
            mean: design.mean,
            counts: Sampled { allocs: 12, frees: 5 },
        }]),
        places: Arc::new(vec![place(0x40_1000, &stack[0]), place(0x40_1008, &stack[1])]),
    });
    report(&facts(), &evidence, &judge(&evidence))
}

#[test]
fn what_lives_by_sample_carries_its_error() {
    let report = sampled();
    // 4096 / 524 288 is 1/128: a sample stands for 1/(1 - exp(-1/128)) = 128.5007 objects.
    let row = &report.allocations.as_ref().unwrap()[0];
    let live = row.live.unwrap();
    assert_eq!((live.objects, row.allocated.objects, row.freed.unwrap().objects), (900, 1542, 643));
    // sqrt(7 (1 - p)) / p
    assert!((live.objects_stderr.unwrap() - 338.655).abs() < 0.001, "{live:?}");
    // Seven samples stand for 3.08 to 13.8, by SciPy, and objects are whole.
    let ends = (live.objects_low, live.objects_high, live.bytes_low, live.bytes_high);
    assert_eq!(ends, (Some(396), Some(1776), Some(396 * 4096), Some(1776 * 4096)));
    let mut text = Vec::new();
    Text.write(&report, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("live after the last GC, by Go's own memory profile: 3.5 MiB (1.5..6.9, 95 %)"),
        "{text}"
    );
}

#[test]
fn what_was_allocated_since_the_gc_is_beside_what_lived_and_counts_for_the_order() {
    let mut report = sampled();
    let old = report.allocations.as_ref().unwrap()[0].clone();
    let since = Allocated { bytes: 64 << 20, objects: 9, ..Allocated::default() };
    let mut new = old.clone();
    new.stack[0].function = "main.fresh".into();
    (new.live, new.allocated_since_gc) = (Some(Allocated::default()), Some(since));
    report.allocations = Some(vec![old, new]);
    report.heap_profile.as_mut().unwrap().allocated_since_gc = since;
    let text = written(&report, &Text);
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("no {words} in {text}"));
    assert!(place("main.fresh") < place("main.grow"), "{text}");
    assert!(place("(+64 MiB since)") < place("main.grow"), "{text}");
    assert_eq!(text.matches(" since)").count(), 1, "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("1 site; 64 MiB allocated since, garbage included"), "{text}");
}

#[test]
fn before_a_gc_told_of_the_samples_every_face_has_what_was_allocated() {
    let of = |source: &'static str, sample_bytes| {
        let mut report = sampled();
        let heap = report.heap_profile.as_mut().unwrap();
        (heap.source, heap.sample_bytes, heap.as_of, heap.live) =
            (source, Some(sample_bytes), "now", heap.allocated);
        let row = &mut report.allocations.as_mut().unwrap()[0];
        row.live = Some(row.allocated);
        let mut text = Vec::new();
        Text.write(&report, &mut text).unwrap();
        String::from_utf8(text).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let ours = of("samples", 524_288);
    // A GC may have run that told nothing of them: that none has is not said.
    let wanted =
        "allocated since attach (no GC has told yet what of it lives), one sample per 512 KiB: 6.0 MiB";
    assert!(ours.contains(wanted) && !ours.contains("no GC yet"), "{ours}");
    assert!(of("samples", 1).contains("lives), every allocation followed: 6.0 MiB"));
    assert!(
        of("runtime", 524_288).contains("allocated so far (no GC yet), by Go's own memory profile: 6.0 MiB")
    );
}

#[test]
fn inlined_functions_share_a_location_and_values_are_scaled_as_go_does() {
    use std::io::Read as _;

    use prost::Message as _;
    let mut gzip = Vec::new();
    super::pprof::Pprof { profile: Profile::InuseSpace }.write(&sampled(), &mut gzip).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut bytes).unwrap();
    let profile = super::pprof_proto::Profile::decode(&bytes[..]).unwrap();
    let [sample] = &profile.sample[..] else { panic!("{profile:?}") };
    // Cut, not rounded: 12 and 7 times 128.5007, and the same times 4096.
    assert_eq!(sample.value, [1542, 6_316_063, 899, 3_684_370]);
    assert_eq!(profile.location.len(), 1, "{:?}", profile.location);
    assert_eq!((profile.location[0].address, profile.location[0].line.len()), (0x40_1000, 2));
    assert_eq!((profile.period, profile.time_nanos > 0), (524_288, true));
    // The same report, the same bytes.
    let mut again = Vec::new();
    super::pprof::Pprof { profile: Profile::InuseSpace }.write(&sampled(), &mut again).unwrap();
    assert_eq!(gzip, again);
}
