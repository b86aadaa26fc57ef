//! Programs that grow and are innocent, and leaks that hide among them: synthetic series with seeded noise.

use std::collections::BTreeMap;

use super::*;
use crate::symbolize::evidence::{
    AllocSite, Allocations, Amount, ClassPoint, GcPoint, GcState, GoroutineGroup, GoroutinePoint,
    GoroutineSite, Goroutines, Line, MapHeld, MapPoint, MapRow, SizeClass,
};

mod live;
mod spacing;

const KIB: f64 = 1024.0;
const MIB: f64 = 1_048_576.0;

/// D. E. Knuth's MMIX generator: the same noise on every machine.
struct Lcg(u64);

impl Lcg {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
    /// Roughly normal with variance 1 (twelve uniforms).
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

fn frame(function: &str, line: u32) -> Frame {
    Frame::from(Line { function: function.into(), file: "m.go".into(), line, ..Line::default() })
}

fn stack(functions: &[&str]) -> Vec<Frame> {
    functions.iter().zip(10..).map(|(f, line)| frame(f, line)).collect()
}

/// A heap whose live bytes follow `live`, with `noise` bytes of it, all in the 96-byte class, a GC every `dt`.
fn heap(cycles: u32, dt: f64, noise: f64, seed: u64, live: impl Fn(f64) -> f64) -> Evidence {
    heap_at((1..=cycles).map(|cycle| f64::from(cycle) * dt), noise, seed, live)
}

/// The same with a GC at each of these seconds.
fn heap_at(
    moments: impl IntoIterator<Item = f64>,
    noise: f64,
    seed: u64,
    live: impl Fn(f64) -> f64,
) -> Evidence {
    let mut rng = Lcg(seed);
    let points: Vec<GcPoint> = (1..)
        .zip(moments)
        .map(|(cycle, t)| {
            let bytes = (live(t) + noise * rng.normal()).max(0.0);
            GcPoint { t, cycle, live_bytes: bytes as u64 }
        })
        .collect();
    let at_s = points.last().map_or(0.0, |p| p.t);
    Evidence {
        at_s,
        size_classes: vec![class(8, 96, &points)],
        gc: Some(GcState {
            cycles: Some(points.len() as u32),
            watched_s: at_s,
            live_bytes: points.last().map(|p| p.live_bytes),
            points,
            ..GcState::default()
        }),
        ..Evidence::default()
    }
}

fn class(number: u8, size: u64, points: &[GcPoint]) -> SizeClass {
    SizeClass {
        class: number,
        size: Some(size),
        objects: 0,
        bytes: 0,
        allocs_per_s: None,
        points: points
            .iter()
            .map(|p| ClassPoint { t: p.t, cycle: p.cycle, objects: p.live_bytes / size, bytes: p.live_bytes })
            .collect(),
    }
}

fn site(id: &str, functions: &[&str], class: u8, size: u64, objects: f64) -> AllocSite {
    let amount =
        Amount { objects: objects as u64, requested: objects as u64 * size, rounded: objects as u64 * size };
    AllocSite {
        id: id.into(),
        stack: stack(functions),
        type_name: None,
        cause: Cause::New,
        amount,
        classes: BTreeMap::from([(class, amount)]),
        first_s: 0.0,
        last_s: 0.0,
        truncated: false,
    }
}

fn with_sites(mut evidence: Evidence, sites: Vec<AllocSite>) -> Evidence {
    let counted_s = evidence.at_s;
    evidence.allocations =
        Some(Allocations { sites, total: Amount::default(), read_at_s: counted_s, counted_s });
    evidence
}

fn heap_findings(evidence: &Evidence) -> Vec<Finding> {
    rules::heap_growth::judge(evidence)
        .into_iter()
        .filter_map(|a| if let Answer::Finding(f) = a { Some(*f) } else { None })
        .collect()
}

#[test]
fn a_leak_in_noise_is_found_at_its_rate() {
    let mut found = 0;
    for seed in 0..50 {
        let e = heap(40, 2.0, 0.5 * MIB, seed, |t| 50.0 * MIB + 1.8 * MIB * t);
        if let [f] = heap_findings(&e).as_slice() {
            let Growth::Heap { slope, .. } = &f.growth else { panic!("a heap finding") };
            assert!((slope.per_unit / MIB - 1.8).abs() < 0.1, "{slope:?}");
            assert_eq!(f.verdict, Verdict::Suspect);
            found += 1;
        }
    }
    assert_eq!(found, 50);
}

#[test]
fn the_interval_holds_the_true_rate_about_as_often_as_it_says() {
    let mut held = 0;
    for seed in 0..200 {
        let e = heap(20, 2.0, 0.3 * MIB, seed * 7 + 1, |t| 50.0 * MIB + 1.0 * MIB * t);
        if let [f] = heap_findings(&e).as_slice() {
            let Growth::Heap { slope, .. } = &f.growth else { panic!("a heap finding") };
            held += usize::from(slope.low <= MIB && MIB <= slope.high);
        }
    }
    assert!(held >= 180, "{held} of 200");
}

#[test]
fn steady_garbage_is_never_accused_however_often_one_looks() {
    for seed in 0..60 {
        for cycles in (12..60).step_by(3) {
            let e = heap(cycles, 1.0, 2.0 * MIB, seed, |_| 60.0 * MIB);
            assert_eq!(heap_findings(&e), [], "seed {seed}, {cycles} cycles");
        }
    }
}

#[test]
fn warm_up_and_caches_that_fill_are_not_accused() {
    for seed in 0..20 {
        for tau in [3.0, 8.0, 15.0] {
            let e = heap(50, 1.0, 0.3 * MIB, seed, |t| 20.0 * MIB + 80.0 * MIB * (1.0 - (-t / tau).exp()));
            assert_eq!(heap_findings(&e), [], "warm-up, tau {tau}, seed {seed}");
        }
        for full in [10.0, 20.0, 30.0, 38.0] {
            let e = heap(50, 1.0, 0.3 * MIB, seed, |t| 20.0 * MIB + 2.0 * MIB * f64::min(t, full));
            assert_eq!(heap_findings(&e), [], "bounded cache, full at {full}, seed {seed}");
        }
    }
}

#[test]
fn saw_teeth_and_bursts_are_not_accused() {
    for seed in 0..20 {
        for period in [5.0, 9.0, 14.0, 20.0, 27.0] {
            let e = heap(50, 1.0, 0.3 * MIB, seed, |t| 20.0 * MIB + 3.0 * MIB * (t % period));
            assert_eq!(heap_findings(&e), [], "period {period}, seed {seed}");
        }
        for at in [10.0, 25.0, 40.0, 47.0] {
            let step = heap(50, 1.0, 0.3 * MIB, seed, |t| if t < at { 20.0 * MIB } else { 90.0 * MIB });
            assert_eq!(heap_findings(&step), [], "step at {at}, seed {seed}");
            let burst = heap(50, 1.0, 0.3 * MIB, seed, |t| {
                if (at..at + 6.0).contains(&t) { 90.0 * MIB } else { 20.0 * MIB }
            });
            assert_eq!(heap_findings(&burst), [], "burst at {at}, seed {seed}");
        }
    }
}

#[test]
fn a_leak_under_a_saw_tooth_is_found_by_its_floor() {
    let e = heap(120, 1.0, 0.3 * MIB, 5, |t| 20.0 * MIB + 1.5 * MIB * t + 2.0 * MIB * (t % 7.0));
    assert_eq!(heap_findings(&e).len(), 1);
}

#[test]
fn the_site_that_allocates_what_stays_is_named_and_not_the_busiest() {
    let e = heap(30, 1.0, 0.2 * MIB, 3, |t| 20.0 * MIB + 0.96 * MIB * t);
    // 0.96 MiB/s in objects of 96 B.
    let rate = 0.96 * MIB / 96.0;
    let e = with_sites(
        e,
        vec![
            site("busy", &["main.render", "main.serve", "main.main"], 8, 96, rate * 40.0 * 30.0),
            site("leak", &["main.(*Cache).Put", "main.serve", "main.main"], 8, 96, rate * 30.0),
            site("rare", &["main.tick", "main.main"], 8, 96, rate * 0.1 * 30.0),
        ],
    );
    let j = judge(&e);
    assert_eq!(j.findings.len(), 1);
    let f = &j.findings[0];
    assert_eq!(f.subject, Subject::Site("leak".into()));
    assert_eq!(f.place.as_ref().map(|p| p.function.as_str()), Some("main.(*Cache).Put"));
    let Growth::Heap { parts, .. } = &f.growth else { panic!("a heap finding") };
    assert!((parts[0].candidates[0].share - 1.0 / 41.1).abs() < 1e-3);
}

/// Two classes that grow at one rate.
fn pair(sites: Vec<AllocSite>, per_s: f64, other_per_s: f64) -> Evidence {
    let (a, b) = (per_s, other_per_s);
    let mut e = heap(30, 1.0, 0.05 * MIB, 3, |t| 20.0 * MIB + (a * 96.0 + b * 32.0) * t);
    let keys = heap(30, 1.0, 0.01 * MIB, 4, |t| 5.0 * MIB + b * 32.0 * t);
    let values = heap(30, 1.0, 0.01 * MIB, 5, |t| 9.0 * MIB + a * 96.0 * t);
    e.size_classes = vec![
        class(4, 32, &keys.gc.expect("made above").points),
        class(8, 96, &values.gc.expect("made above").points),
    ];
    with_sites(e, sites)
}

#[test]
fn keys_and_values_of_one_map_are_one_finding() {
    let n = 20_000.0 * 30.0;
    let e = pair(
        vec![
            site("v", &["main.newSession", "main.(*Cache).Put", "main.serve", "main.main"], 8, 96, n),
            site("k", &["strings.Clone", "main.(*Cache).Put", "main.serve", "main.main"], 4, 32, n),
        ],
        20_000.0,
        20_000.0,
    );
    let j = judge(&e);
    assert_eq!(j.findings.len(), 1, "{:#?}", j.findings);
    let Growth::Heap { parts, slope, .. } = &j.findings[0].growth else { panic!("a heap finding") };
    assert_eq!(parts.len(), 2);
    assert!((slope.per_unit / (20_000.0 * 128.0) - 1.0).abs() < 0.05);
}

#[test]
fn two_leaks_of_one_program_stay_two() {
    let e = pair(
        vec![
            site("v", &["main.leakA", "main.main"], 8, 96, 20_000.0 * 30.0),
            site("k", &["main.leakB", "main.main"], 4, 32, 50_000.0 * 30.0),
        ],
        20_000.0,
        50_000.0,
    );
    assert_eq!(judge(&e).findings.len(), 2);
}

#[test]
fn without_probes_the_class_is_named_and_the_way_to_the_site() {
    let e = heap(30, 1.0, 0.2 * MIB, 3, |t| 20.0 * MIB + MIB * t);
    let j = judge(&e);
    assert_eq!(j.findings[0].subject, Subject::SizeClass(Some(96)));
    assert!(j.findings[0].evidence.iter().any(|s| s.contains("--sampler all")));
}

#[test]
fn short_data_say_what_they_need() {
    let needs = |e: &Evidence| match rules::heap_growth::judge(e).as_slice() {
        [Answer::NotYet(n)] => (n.reason.clone(), n.needs.clone()),
        other => panic!("{other:?}"),
    };
    let e = heap(8, 5.0, 0.0, 1, |t| t * MIB);
    assert_eq!(
        needs(&e),
        ("8 GC cycles since attach".to_owned(), "4 more GC cycles, about 20s at the present rate".to_owned())
    );
    let mut none = heap(0, 1.0, 0.0, 1, |_| 0.0);
    none.gc.as_mut().expect("made above").watched_s = 40.0;
    assert_eq!(needs(&none).0, "no GC has run since attach (40s)");
    assert!(!all_decided(&judge(&none)));
}

#[test]
fn slow_growth_is_waited_for_and_not_called_none() {
    let told = |e: &Evidence| match rules::heap_growth::judge(e).as_slice() {
        [Answer::NotYet(n)] => format!("{}; {}", n.reason, n.needs),
        other => panic!("{other:?}"),
    };
    let slow = |t| 2.0 * MIB + 8.0 * KIB * t;
    // 22 seconds of it after warm-up.
    let e = heap(30, 1.0, 0.0, 1, slow);
    assert_eq!(told(&e), "the live heap grew +8.0 KiB/s, so far by less than 256 KiB; about 11s more");
    // Other objects come and go by more than that.
    let mut hidden = heap(30, 1.0, 60.0 * KIB, 1, |_| 2.0 * MIB);
    hidden.size_classes = e.size_classes;
    let words = "objects of 96 B grew +8.0 KiB/s, which the whole heap does not show so far; about 11s more";
    assert_eq!(told(&hidden), words);
    // A heap that shrinks shows it never, nor does one that goes up and down by megabytes.
    for (noise, falls) in [(0.0, 200.0 * KIB), (2.0 * MIB, 0.0)] {
        let mut other = heap(30, 1.0, noise, 1, |t| 60.0 * MIB - falls * t);
        other.size_classes.clone_from(&hidden.size_classes);
        assert_eq!(rules::heap_growth::judge(&other), [Answer::Quiet], "{noise} {falls}");
    }
    // What would take an hour is no reason to wait, and noise is none.
    for seed in 0..50 {
        for e in [
            heap(30, 1.0, 0.0, seed, |t| 2.0 * MIB + 80.0 * t),
            heap(30, 1.0, 60.0 * KIB, seed, |_| 2.0 * MIB),
        ] {
            let answers = rules::heap_growth::judge(&e);
            assert_eq!(answers, [Answer::Quiet], "{seed}");
        }
    }
}

/// Classes that drift, each by itself and about what it always had: few sessions wait for them.
#[test]
fn drifting_classes_of_a_steady_heap_do_not_hold_sessions_open() {
    const CLASSES: u8 = 40;
    const SECONDS: u32 = 90;
    let mut waited = 0;
    for seed in 0..40 {
        let mut random = Lcg(seed);
        // A correlation time of a minute, 60 KiB about 400 KiB.
        let keeps = (-1.0_f64 / 60.0).exp();
        let mut drift = || {
            let mut at = 60.0 * KIB * random.normal();
            let mut next = || {
                at = keeps * at + 60.0 * KIB * (1.0 - keeps * keeps).sqrt() * random.normal();
                (400.0 * KIB + at).max(0.0)
            };
            (0..SECONDS).map(|_| next()).collect::<Vec<f64>>()
        };
        let classes: Vec<Vec<f64>> = (0..CLASSES).map(|_| drift()).collect();
        let at = |t: f64| classes.iter().map(|c| c[t as usize - 1]).sum();
        let mut e = heap(SECONDS, 1.0, 0.0, seed, at);
        let points = e.gc.as_ref().expect("made above").points.clone();
        let of = |(number, bytes): (u8, &Vec<f64>)| {
            let with = |(p, bytes): (&GcPoint, &f64)| GcPoint { live_bytes: *bytes as u64, ..*p };
            class(number, 96, &points.iter().zip(bytes).map(with).collect::<Vec<_>>())
        };
        e.size_classes = (1..).zip(&classes).map(of).collect();
        let answers = rules::heap_growth::judge(&e);
        // The whole heap drifts too, now and then by enough.
        let hidden = |a: &Answer| matches!(a, Answer::NotYet(n) if n.reason.contains("whole heap"));
        waited += u32::from(answers.iter().any(hidden));
    }
    assert!(waited <= 8, "{waited} of 40 steady programs are still watched after a minute and a half");
}

/// Goroutines of one site, one reading a second; `ended` of those created have ended.
fn goroutines(
    seconds: u32,
    count: impl Fn(f64) -> f64,
    births: Option<(u64, u64)>,
    waits: bool,
    oldest_since: impl Fn(f64) -> Option<f64>,
) -> Evidence {
    let points: Vec<GoroutinePoint> = (0..seconds)
        .map(f64::from)
        .map(|t| {
            let count = count(t).max(0.0) as u64;
            GoroutinePoint {
                t,
                count,
                waiting: if waits { count } else { 0 },
                oldest_wait_since: oldest_since(t),
            }
        })
        .collect();
    let now = points.last().map_or(0, |p| p.count);
    Evidence {
        at_s: f64::from(seconds),
        goroutines: Some(Goroutines {
            uncounted: false,
            total: Some(now),
            counted_s: births.map(|_| f64::from(seconds)),
            sites: vec![GoroutineSite {
                id: "g".into(),
                created_by: Some(frame("main.startWorker", 23)),
                created_at: vec![23],
                entry: "main.worker".into(),
                internal: false,
                count: now,
                points,
                created: births.map(|b| b.0),
                ended: births.map(|b| b.1),
                waits: Vec::new(),
                groups: vec![GoroutineGroup {
                    entry: "main.worker".into(),
                    state: if waits { "chan receive" } else { "running" }.into(),
                    waits,
                    stack: stack(&["main.worker.func1", "main.worker"]),
                    count: now,
                    oldest_wait_s: None,
                    examples: vec![],
                }],
            }],
            ..Goroutines::default()
        }),
        ..Evidence::default()
    }
}

fn goroutine_answer(e: &Evidence) -> Answer {
    let mut answers = rules::goroutine_growth::judge(e);
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

#[test]
fn goroutines_that_wait_for_ever_are_a_leak() {
    for births in [Some((60, 0)), None] {
        let e = goroutines(60, |t| 10.0 + t, births, true, |_| Some(-5.0));
        let Answer::Finding(f) = goroutine_answer(&e) else { panic!("a finding") };
        assert_eq!(f.verdict, Verdict::Leak, "{f:?}");
        let Growth::Goroutines(g) = &f.growth else { panic!("a goroutine finding") };
        assert!((g.slope.per_unit - 1.0).abs() < 0.05);
        assert_eq!(g.blocked_at[0].function, "main.worker.func1");
    }
}

#[test]
fn growing_load_is_suspect_at_most() {
    // Half of those created end, so the old ones do leave.
    let e = goroutines(60, |t| 10.0 + t, Some((120, 61)), true, |t| Some(t - 2.0));
    let Answer::Finding(f) = goroutine_answer(&e) else { panic!("a finding") };
    assert_eq!(f.verdict, Verdict::Suspect);
    // They run: no leak either.
    let e = goroutines(60, |t| 10.0 + t, Some((60, 0)), false, |_| None);
    let Answer::Finding(f) = goroutine_answer(&e) else { panic!("a finding") };
    assert_eq!(f.verdict, Verdict::Suspect);
}

#[test]
fn pools_bursts_and_swings_of_goroutines_are_not_accused() {
    let check = |what: &str, e: &Evidence| {
        let answer = goroutine_answer(e);
        assert!(!matches!(answer, Answer::Finding(_)), "{what}: {answer:?}");
    };
    check("pool", &goroutines(60, |t| f64::min(t * 4.0, 100.0), Some((100, 0)), true, |_| Some(0.0)));
    check("step", &goroutines(60, |t| if t < 40.0 { 5.0 } else { 500.0 }, None, true, |_| None));
    check("late step", &goroutines(60, |t| if t < 57.0 { 5.0 } else { 500.0 }, None, true, |_| None));
    for period in [7.0, 13.0, 20.0, 31.0] {
        check("saw-tooth", &goroutines(60, |t| 10.0 + 8.0 * (t % period), None, true, |_| None));
    }
    check("balanced", &goroutines(60, |t| 10.0 + t / 4.0, Some((900, 900)), true, |_| None));
    for seed in 0..40 {
        for seconds in [12, 20, 40, 80, 160] {
            // Load: each stays 3 readings, arrivals vary.
            let mut rng = Lcg(seed);
            let noise: Vec<f64> = (0..200).map(|_| rng.unit() * 30.0).collect();
            let load = |t: f64| (0..3).map(|k| noise[t as usize + k]).sum::<f64>();
            check("load", &goroutines(seconds, load, None, true, |_| None));
        }
    }
}

/// Goroutines and objects of 96 bytes that grow at one rate.
fn growing_together() -> Evidence {
    let per_s = 500.0;
    let mut e = goroutines(60, |t| 10.0 + per_s * t, Some((30_000, 0)), true, |_| Some(-5.0));
    let heap = heap(60, 1.0, 0.001 * MIB, 3, |t| 20.0 * MIB + per_s * 96.0 * t);
    e.gc = heap.gc;
    e.size_classes = heap.size_classes;
    e
}

#[test]
fn heap_that_the_code_of_leaked_goroutines_allocates_is_part_of_their_finding() {
    let sites = vec![site("s", &["main.worker.func1", "main.worker"], 8, 96, 30_000.0)];
    let j = judge(&with_sites(growing_together(), sites));
    assert_eq!(j.findings.len(), 1, "{:#?}", j.findings);
    assert_eq!(j.findings[0].rule, rules::goroutine_growth::NAME);
    assert!(j.findings[0].evidence.iter().any(|s| s.contains("live heap grows")));
}

#[test]
fn one_rate_alone_hides_no_leak_of_the_heap() {
    let j = judge(&growing_together());
    let [a, b] = j.findings.as_slice() else { panic!("{:#?}", j.findings) };
    assert_ne!(a.rule, b.rule);
    for (one, other) in [(a, b), (b, a)] {
        assert_eq!(one.related, [other.id()]);
        assert!(one.evidence.iter().any(|s| s.contains("objects of 96 B grow at the same rate")), "{one:?}");
    }
}

/// A map that holds `entries` at each second.
fn map_over(seconds: u32, entries: impl Fn(f64) -> f64) -> Evidence {
    let points: Vec<MapPoint> =
        (0..seconds).map(f64::from).map(|t| MapPoint { t, entries: entries(t).max(0.0) as u64 }).collect();
    let held = points.last().map(|p| MapHeld { entries: p.entries, capacity: None, tombstones: None });
    let map = MapRow {
        id: "m".into(),
        type_name: Some("map[string]int".into()),
        may_be: Vec::new(),
        address: 8,
        variable: None,
        held,
        points,
        writes: None,
        deletes: None,
        grows: Some(3),
        sites: Vec::new(),
        places: None,
    };
    Evidence { at_s: f64::from(seconds), maps: vec![map], ..Evidence::default() }
}

#[test]
fn a_map_that_only_grows_is_suspected_with_its_rate() {
    let judged = rules::map_growth::judge(&map_over(60, |t| 500.0 + 70.0 * t));
    let [Answer::Finding(f)] = judged.as_slice() else { panic!("{judged:#?}") };
    let Growth::Map(growth) = &f.growth else { panic!("a map finding") };
    assert_eq!((f.verdict, growth.entries), (Verdict::Suspect, 500 + 70 * 59));
    assert!((growth.slope.per_unit - 70.0).abs() < 1.0, "{growth:?}");
}

#[test]
fn maps_that_stay_fill_up_or_empty_are_not_accused() {
    type Entries = fn(f64) -> f64;
    let cases: [(&str, Entries); 6] = [
        ("steady", |_| 40_000.0),
        ("a bounded cache that has filled", |t| (900.0 * t).min(20_000.0)),
        ("filling ever more slowly", |t| 20_000.0 * (1.0 - (-t / 9.0).exp())),
        ("emptied every twenty seconds", |t| 500.0 * (t % 20.0)),
        ("shrinking", |t| 50_000.0 - 300.0 * t),
        ("a burst", |t| if t > 30.0 { 9_000.0 } else { 100.0 }),
    ];
    for (name, entries) in cases {
        let judged = rules::map_growth::judge(&map_over(60, entries));
        assert!(!judged.iter().any(|a| matches!(a, Answer::Finding(_))), "{name}: {judged:#?}");
    }
    let young = rules::map_growth::judge(&map_over(5, |t| 50_000.0 + 900.0 * t));
    assert!(matches!(young.as_slice(), [Answer::NotYet(n)] if n.needs.contains("more")), "{young:#?}");
}

#[test]
fn a_map_that_stopped_growing_is_not_accused() {
    let judge = |entries: &dyn Fn(f64) -> f64| rules::map_growth::judge(&map_over(24, entries));
    let accused =
        |entries: &dyn Fn(f64) -> f64| judge(entries).iter().any(|a| matches!(a, Answer::Finding(_)));
    assert!(accused(&|t| 2000.0 * t));
    // One reading that comes late is no end.
    assert!(accused(&|t| 2000.0 * t.min(21.0)));
    // Dropped, or full: it grew every second and has not for three.
    for end in [20.0, 19.0] {
        let judged = judge(&|t| 2000.0 * t.min(end));
        let [Answer::NotYet(waiting)] = &judged[..] else { panic!("{judged:?}") };
        assert!(waiting.reason.contains("but none for"), "{}", waiting.reason);
    }
    // Falling from its peak is no growth either.
    assert!(!accused(&|t| 2000.0 * t.min(20.0) - t));
    // What comes every four seconds may well not come for six.
    let judged = rules::map_growth::judge(&map_over(59, |t| 2000.0 * (t.min(52.0) / 4.0).floor()));
    assert!(matches!(judged[..], [Answer::Finding(_)]), "{judged:?}");
}
