//! The same with collections that come unevenly, as those of real programs do: the larger the heap, the rarer.

use super::*;

/// Collections after which a full cache can be told from one that fills: two may be chance.
const SEEN_FULL: usize = 3;

/// When a program that allocates `mib_per_s` collects until `seconds`, with GOGC=100: once what lives has come again.
fn as_the_heap_grows(seconds: f64, mib_per_s: f64, live: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut moments = Vec::new();
    let mut t = 0.0;
    loop {
        // The runtime lets 4 MiB come at least.
        t += (live(t) / MIB).max(4.0) / mib_per_s;
        if t > seconds {
            return moments;
        }
        moments.push(t);
    }
}

#[test]
fn a_cache_is_not_accused_once_it_is_full_however_much_rarer_collections_have_become() {
    let mut looked = 0;
    for seed in 0..10 {
        for mib_per_s in [10.0, 20.0, 50.0, 150.0] {
            for seconds in [36, 40, 45, 50, 60, 80].map(f64::from) {
                for full in [0.4, 0.6, 0.75].map(|share| share * seconds) {
                    let live = |t: f64| MIB * (1.0 + 2.0 * f64::min(t, full));
                    let moments = as_the_heap_grows(seconds, mib_per_s, live);
                    if moments.iter().filter(|t| **t > full).count() < SEEN_FULL {
                        continue;
                    }
                    looked += 1;
                    let e = heap_at(moments, 0.3 * MIB, seed, live);
                    let what = format!("{mib_per_s} MiB/s, full at {full} of {seconds}, seed {seed}");
                    assert_eq!(heap_findings(&e), [], "{what}");
                }
            }
        }
    }
    assert!(looked > 600, "{looked}");
}

#[test]
fn a_leak_is_found_however_much_rarer_its_growth_makes_collections() {
    for seed in 0..10 {
        for mib_per_s in [20.0, 50.0, 150.0] {
            let live = |t: f64| MIB * (1.0 + 2.0 * t);
            let e = heap_at(as_the_heap_grows(60.0, mib_per_s, live), 0.3 * MIB, seed, live);
            let found = heap_findings(&e);
            let [f] = &found[..] else { panic!("{mib_per_s} MiB/s, seed {seed}: {found:?}") };
            let Growth::Heap { slope, .. } = &f.growth else { panic!("a heap finding") };
            assert!((slope.per_unit / MIB - 2.0).abs() < 0.1, "{slope:?}");
        }
    }
}

#[test]
fn noise_in_rare_cycles_hides_no_leak() {
    let mut found = 0;
    for seed in 0..60 {
        let live = |t: f64| MIB * (1.0 + 0.8 * t);
        let e = heap_at(as_the_heap_grows(30.0, 40.0, live), 1.2 * MIB, seed, live);
        found += heap_findings(&e).len();
    }
    assert!(found >= 58, "{found} of 60");
}
