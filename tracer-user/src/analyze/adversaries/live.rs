//! The same for what is known of live objects: sites by a sample whose objects live and die, and types by a new sample
//! each cycle.

use super::*;
use crate::sampling::ByBytes;
use crate::symbolize::evidence::{Census, CensusClass, TypeInClass, TypePoint, TypeRow};
use crate::symbolize::profile::{Amounts, HeapProfile, ProfileSite, SiteAmounts, SitePoint};

/// A size class of the runtime's, and its number.
const SIZE: u64 = 1024;
const CLASS: u8 = 32;
const RATE: ByBytes = ByBytes { mean: 64 << 10 };

/// Objects of one site: how many live at each second, and which share of them is replaced by others each second.
struct Site<'a> {
    name: &'a str,
    live: &'a dyn Fn(f64) -> f64,
    replaced: f64,
}

/// How many of `n` there are when each is taken with probability `p`.
fn binomial(rng: &mut Lcg, n: u64, p: f64) -> u64 {
    (0..n).filter(|_| rng.unit() < p).count() as u64
}

/// A sample whose objects stay in it as long as they live, as the runtime's does.
fn sampled(site: &Site<'_>, seconds: u32, rng: &mut Lcg) -> (Vec<SitePoint>, Amounts) {
    let p = RATE.inclusion(SIZE);
    let (mut lived, mut held) = (0_u64, 0_u64);
    let (mut points, mut live) = (Vec::new(), Amounts::default());
    for cycle in 1..=seconds {
        let t = f64::from(cycle);
        let lives = (site.live)(t).max(0.0) as u64;
        let stay = (lived.min(lives) as f64 * (1.0 - site.replaced)) as u64;
        held = if lived == 0 { 0 } else { binomial(rng, held, stay as f64 / lived as f64) };
        held += binomial(rng, lives - stay, p);
        lived = lives;
        let objects = RATE.objects(held, SIZE);
        live = Amounts { objects, bytes: objects.times(SIZE as f64) };
        points.push(SitePoint { t, live: live.level() });
    }
    (points, live)
}

/// A program of these sites, a GC a second.
fn program(sites: &[Site<'_>], seconds: u32, seed: u64) -> Evidence {
    let all = |t: f64| sites.iter().map(|s| (s.live)(t).max(0.0)).sum::<f64>() * SIZE as f64;
    let mut e = heap(seconds, 1.0, 0.05 * MIB, seed, all);
    e.size_classes = vec![class(CLASS, SIZE, &e.gc.as_ref().expect("made above").points)];
    let mut rng = Lcg(seed ^ 0x5eed);
    let rows = sites.iter().map(|site| {
        let (points, live) = sampled(site, seconds, &mut rng);
        ProfileSite {
            type_name: None,
            live_type: None,
            id: site.name.into(),
            stack: stack(&[site.name, "main.main"]),
            cause: Cause::New,
            amounts: SiteAmounts { live, ..SiteAmounts::default() },
            live_types: Vec::new(),
            samples: 0,
            sizes: vec![(SIZE, 1)],
            ages: Vec::new(),
            points,
        }
    });
    let sites = rows.collect();
    e.profile = Some(HeapProfile { rate: RATE.mean, collected: true, sites, ..HeapProfile::default() });
    e
}

fn places(findings: &[Finding]) -> Vec<String> {
    findings.iter().filter_map(|f| Some(f.place.as_ref()?.function.clone())).collect()
}

#[test]
fn a_site_that_keeps_is_named_with_what_lives_and_its_interval_holds_the_rate() {
    let (mut named, mut held) = (0, 0);
    for seed in 0..40 {
        let sites = [
            Site { name: "main.leak", live: &|t| 500.0 + 400.0 * t, replaced: 0.0 },
            Site { name: "main.steady", live: &|_| 8_000.0, replaced: 0.2 },
        ];
        let found = judge(&program(&sites, 40, seed)).findings;
        let [f] = found.as_slice() else { continue };
        assert_eq!((f.verdict, places(&found)), (Verdict::Suspect, vec!["main.leak".to_owned()]));
        let live = f.live.expect("a sample of them is followed");
        assert!((live.objects - 16_500.0).abs() < 5.0 * live.objects_stderr, "{live:?}");
        let Growth::Heap { slope, .. } = &f.growth else { panic!("a heap finding") };
        named += 1;
        held += u32::from(slope.low <= 400.0 * 1024.0 && 400.0 * 1024.0 <= slope.high);
    }
    assert!(named >= 38 && held >= named * 9 / 10, "{named} named, {held} intervals hold");
}

#[test]
fn a_sample_that_drifts_makes_no_leak_of_a_steady_site() {
    // Something grows that is in no sample, and steady sites of that size turn over slowly: their estimates wander.
    let mut accused = 0;
    for seed in 0..60 {
        for seconds in [20, 40, 80] {
            let sites = [
                Site { name: "main.slow", live: &|_| 6_000.0, replaced: 0.02 },
                Site { name: "main.quick", live: &|_| 6_000.0, replaced: 0.5 },
            ];
            let mut e = program(&sites, seconds, seed);
            let grown = heap(seconds, 1.0, 0.05 * MIB, seed, |t| 12.0 * MIB + 0.3 * MIB * t);
            e.size_classes = vec![class(CLASS, SIZE, &grown.gc.as_ref().expect("made above").points)];
            e.gc = grown.gc;
            let found = heap_findings(&e);
            accused += usize::from(!places(&found).is_empty());
        }
    }
    assert!(accused <= 2, "{accused} of 180");
}

#[test]
fn a_site_whose_objects_are_of_many_sizes_is_named_all_the_same() {
    let mut named = 0;
    for seed in 0..20 {
        let mut e =
            program(&[Site { name: "main.read", live: &|t| 500.0 + 600.0 * t, replaced: 0.0 }], 60, seed);
        e.size_classes.clear();
        let found = judge(&e).findings;
        let [f] = found.as_slice() else { continue };
        assert_eq!(places(&found), ["main.read"]);
        let live = f.live.expect("a sample of them is followed");
        assert!((live.objects - 36_500.0).abs() < 5.0 * live.objects_stderr, "{live:?}");
        named += 1;
    }
    assert!(named >= 18, "{named} of 20");
}

#[test]
fn sites_that_swing_warm_up_or_are_full_are_not_accused_and_those_that_fill_are_suspects_at_most() {
    for seed in 0..15 {
        let innocent: [(&str, &dyn Fn(f64) -> f64); 4] = [
            ("saw-tooth", &|t| 1_000.0 + 900.0 * (t % 13.0)),
            ("warm-up", &|t| 20_000.0 * (1.0 - (-t / 6.0).exp())),
            ("cache that is full", &|t| f64::min(1_200.0 * t, 18_000.0)),
            ("burst", &|t| if (20.0..28.0).contains(&t) { 20_000.0 } else { 1_000.0 }),
        ];
        for (what, live) in innocent {
            let found = judge(&program(&[Site { name: "main.f", live, replaced: 0.05 }], 50, seed)).findings;
            assert_eq!(found, [], "{what}, seed {seed}");
        }
        // Nothing tells it from a leak until it is full: then it is quiet.
        let filling = |seconds| {
            let live = |t: f64| f64::min(300.0 * t, 24_000.0);
            judge(&program(&[Site { name: "main.f", live: &live, replaced: 0.0 }], seconds, seed)).findings
        };
        assert!(filling(50).iter().all(|f| f.verdict == Verdict::Suspect), "seed {seed}");
        assert_eq!(filling(160), [], "seed {seed}");
    }
}

/// Objects of these types in one class, of which each census looks at `looked` anew.
fn typed(types: &[(&str, &dyn Fn(f64) -> f64)], seconds: u32, looked: u64, seed: u64) -> Evidence {
    let all = |t: f64| types.iter().map(|(_, live)| live(t).max(0.0)).sum::<f64>();
    let mut e = heap(seconds, 1.0, 0.02 * MIB, seed, |t| all(t) * 96.0);
    let mut rng = Lcg(seed ^ 0x7ee5);
    let mut rows: Vec<TypeRow> = Vec::new();
    for (name, live) in types {
        let points = (1..=seconds).map(|cycle| {
            let (t, total) = (f64::from(cycle), all(f64::from(cycle)));
            let part = live(t).max(0.0) / total;
            let hits = binomial(&mut rng, looked, part) as f64 / looked as f64;
            let objects = (total * hits) as u64;
            let objects_stderr = total * (hits * (1.0 - hits) / looked as f64).sqrt();
            TypePoint { t, cycle, objects, bytes: 96 * objects, objects_stderr }
        });
        let points: Vec<TypePoint> = points.collect();
        let last = points[points.len() - 1];
        rows.push(TypeRow {
            candidates: vec![(*name).to_owned()],
            objects: last.objects,
            bytes: last.bytes,
            classes: vec![TypeInClass { class: 8, points }],
            ..TypeRow::default()
        });
    }
    let bytes = rows.iter().map(|r| r.bytes).sum();
    let class =
        CensusClass { class: 8, size: Some(96), objects: bytes / 96, bytes, ..CensusClass::default() };
    e.census = Some(Census { classes: vec![class], types: Some(rows), ..Census::default() });
    e
}

#[test]
fn the_type_that_grows_in_a_class_is_named_and_not_the_largest() {
    for seed in 0..30 {
        let types: [(&str, &dyn Fn(f64) -> f64); 3] = [
            ("main.large", &|_| 60_000.0),
            ("main.leaked", &|t| 2_000.0 + 1_500.0 * t),
            ("main.swings", &|t| 4_000.0 + 700.0 * (t % 11.0)),
        ];
        let found = judge(&typed(&types, 60, 4_000, seed)).findings;
        let [f] = found.as_slice() else { panic!("seed {seed}: {found:#?}") };
        assert_eq!(f.subject, Subject::Type("main.leaked".into()), "seed {seed}");
        let live = f.live.expect("a census counted them");
        assert!((live.objects - 92_000.0).abs() < 5.0 * live.objects_stderr, "seed {seed}: {live:?}");
        assert_eq!(f.verdict, Verdict::Suspect);
    }
}

#[test]
fn steady_types_of_a_growing_class_are_not_named() {
    // What grows has no pointers, and so no type.
    for seed in 0..60 {
        let types: [(&str, &dyn Fn(f64) -> f64); 2] = [("main.a", &|_| 9_000.0), ("main.b", &|_| 3_000.0)];
        let mut e = typed(&types, 60, 1_000, seed);
        let grown = heap(60, 1.0, 0.02 * MIB, seed, |t| 1.2 * MIB + 0.2 * MIB * t);
        (e.gc, e.size_classes) = (grown.gc, grown.size_classes);
        let census = e.census.as_mut().expect("made above");
        census.classes.push(CensusClass {
            class: 8,
            noscan: true,
            bytes: 12 << 20,
            ..CensusClass::default()
        });
        let found = heap_findings(&e);
        let [f] = found.as_slice() else { panic!("seed {seed}: {found:#?}") };
        assert_eq!((&f.subject, &f.type_name), (&Subject::SizeClass(Some(96)), &None), "seed {seed}");
    }
}

#[test]
fn a_map_of_the_growing_type_is_part_of_its_finding() {
    let types: [(&str, &dyn Fn(f64) -> f64); 1] = [("main.session", &|t| 500.0 + 2_000.0 * t)];
    let mut e = typed(&types, 60, 4_000, 1);
    let held = map_over(60, |t| 500.0 + 2_000.0 * t);
    e.maps = held.maps;
    for (of, findings) in [("map[string]*main.session", 1), ("map[string]*main.other", 2)] {
        e.maps[0].type_name = Some(of.into());
        let j = judge(&e);
        assert_eq!(j.findings.len(), findings, "{of}: {:#?}", j.findings);
    }
}

/// Neighbouring readings of a real series resemble each other, which tests of trend take for a trend: S. Yue and
/// C. Wang, Water Resources Research 38, 2002; K. H. Hamed and A. R. Rao, Journal of Hydrology 204, 1998.
#[test]
fn a_series_that_remembers_is_not_a_leak() {
    let mut accused = 0;
    for seed in 0..200 {
        for memory in [0.5, 0.8, 0.9] {
            let mut rng = Lcg(seed * 31 + (memory * 10.0) as u64);
            let mut level = 0.0;
            let series: Vec<f64> = (0..62)
                .map(|_| {
                    level = memory * level + (1.0_f64 - memory * memory).sqrt() * rng.normal();
                    level
                })
                .collect();
            let e = heap(60, 1.0, 0.0, seed, |t| 60.0 * MIB + 3.0 * MIB * series[t as usize]);
            accused += usize::from(!heap_findings(&e).is_empty());
        }
    }
    assert!(accused <= 6, "{accused} of 600 are accused");
}
