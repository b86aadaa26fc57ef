//! What a made session reads of its target, at the cadence of a real one: of a size and shape that a busy service has.

use tracer_user::record::Readout;
use tracer_user::record::census::{Amount, Candidate, Census, CensusClass, Population, Spans, TypeShare};
use tracer_user::record::reading::{
    AllocClass, AllocCount, Counts, Gc, GoState, GoroutineGroup, Goroutines, MapState, Maps, Process,
    SiteWaits, SizeClass, SizeClasses, Waits,
};
use tracer_user::units::{Bytes, Goid, KTime, ProcAddr, StackId};

/// Types that a census tells of.
pub(super) const TYPES: u64 = 400;
pub(super) const MAPS: u64 = 64;
/// Groups of goroutines, each of a creation site of its own.
pub(super) const GROUPS: u64 = 20;

/// A reading that sees no collection end. `round` counts the collections of the target, here and below.
pub(super) fn gc(round: u64) -> Readout {
    Readout::Gc(figures(round, Vec::new()))
}

/// The first reading after one.
pub(super) fn gc_ended(round: u64) -> Readout {
    Readout::Gc(figures(round, vec![40_000 + round % 1000]))
}

fn figures(round: u64, new_pauses_ns: Vec<u64>) -> Gc {
    Gc {
        cycles: round as u32,
        forced: 0,
        heap_marked: Bytes((80 << 20) + round * 4096),
        heap_live: Bytes((120 << 20) + round * 4100),
        goal: Some(Bytes(160 << 20)),
        in_use: Bytes(130 << 20),
        free: Bytes(30 << 20),
        released: Bytes(10 << 20),
        mapped_ready: Bytes(170 << 20),
        in_stacks: Bytes(2 << 20),
        gogc: 100,
        memory_limit: None,
        last_gc_unix_ns: Some(1_700_000_000_000_000_000 + round),
        new_pauses_ns,
        cpu_fraction: Some(0.01),
    }
}

pub(super) fn size_classes(round: u64) -> Readout {
    let class = |n: u64| SizeClass {
        class: n as u8,
        size: Bytes(n * 16),
        allocs: 1_000_000 + round * n,
        frees: 900_000 + round * (n - 1),
    };
    Readout::SizeClasses(SizeClasses {
        small: (1..=67).map(class).collect(),
        large_allocs: 1000 + round,
        large_frees: 900 + round,
        large_alloc_bytes: Bytes((1000 + round) << 16),
        large_free_bytes: Bytes((900 + round) << 16),
        tiny_allocs: 5_000_000 + round,
    })
}

pub(super) fn goroutines(round: u64) -> Readout {
    let group = |n: u64| GoroutineGroup {
        created_at: Some(ProcAddr(0x41_0000 + n * 64)),
        entry: ProcAddr(0x42_0000 + n * 64),
        state: GoState::Waiting,
        wait: Some("chan receive".to_owned()),
        stack: (0..8).map(|depth| ProcAddr(0x43_0000 + n * 640 + depth * 64)).collect(),
        count: 1 + n,
        oldest_wait: Some(KTime(1)),
        examples: vec![Goid(n + 1), Goid(n + 1000)],
    };
    let groups = (0..GROUPS).map(group).collect();
    Readout::Goroutines(Goroutines { groups, total: 210 + round % 3, ..Goroutines::default() })
}

pub(super) fn process(round: u64) -> Readout {
    Readout::Process(Process {
        rss: Bytes((200 << 20) + round * 4096),
        rss_anon: Some(Bytes((180 << 20) + round * 4096)),
        rss_shmem: Some(Bytes(0)),
        cpu_s: round as f64 / 100.0,
        threads: 12,
    })
}

pub(super) fn counts(round: u64) -> Readout {
    let row = |n: u64| AllocCount {
        stack: StackId((n << 40) + 77),
        type_addr: Some(ProcAddr(0x50_0000 + n * 64)),
        class: AllocClass::Small((n % 67) as u8 + 1),
        objects: round * (n + 1),
        requested: Bytes(round * (n + 1) * 40),
        rounded: Bytes(round * (n + 1) * 48),
    };
    Readout::Counts(Counts { allocs: (0..100).map(row).collect(), hits: vec![round], ..Counts::default() })
}

pub(super) fn waits(round: u64) -> Readout {
    let site = |n: u64| SiteWaits {
        created_at: Some(ProcAddr(0x41_0000 + n * 64)),
        since: (0..=n % 5).map(|moment| (KTime(1 + moment * 250_000_000), 1 + round % 2)).collect(),
    };
    Readout::Waits(Waits { sites: (0..GROUPS).map(site).collect(), over: 0 })
}

pub(super) fn maps(round: u64) -> Readout {
    let map = |n: u64| MapState {
        address: ProcAddr(0xc0_0010_0000 + n * 48),
        type_addr: ProcAddr(0x50_0000 + n * 64),
        variable: Some(ProcAddr(0x60_0000 + n * 8)),
        seed: n,
        entries: 1000 + n + round * (n % 4),
        capacity: Some(2048 + round * (n % 4) * 2),
        tombstones: Some(0),
    };
    Readout::Maps(Maps { maps: (0..MAPS).map(map).collect(), skipped: 0, beyond_cap: 0 })
}

pub(super) fn census(round: u64) -> Readout {
    let objects = |class: u64| 1_000 * (69 - class) + round % 500;
    let amount = |class: u64, objects: u64| Amount { objects, bytes: Bytes(objects * class * 16) };
    let class = |n: u64| CensusClass {
        class: (n / 2) as u8,
        noscan: n % 2 == 1,
        size: Some(Bytes(n / 2 * 16)),
        spans: 30 + n,
        survived: amount(n / 2, objects(n / 2)),
        since: amount(n / 2, 100 + round % 7),
    };
    // Six types or so a class, a fifth of them with another that cannot be told from it.
    let share = |n: u64| TypeShare {
        class: (n % 67 + 1) as u8,
        candidates: (0..=u64::from(n.is_multiple_of(5))).map(|other| candidate(n + other * TYPES)).collect(),
        hits: 100 + (n + round) % 60,
        bytes: Bytes((100 + (n + round) % 60) * (n % 67 + 1) * 16),
        looked_at: 1_000,
        of: amount(n % 67 + 1, objects(n % 67 + 1)),
        population: Population::Survived,
    };
    Readout::Census(Census {
        cycle: round as u32,
        cycle_end: round as u32,
        classes: (2..=135).map(class).collect(),
        manual: Spans { spans: 200, bytes: Bytes(2 << 20) },
        types: Some((0..TYPES).map(share).collect()),
        ..Census::default()
    })
}

fn candidate(n: u64) -> Candidate {
    Candidate { type_addr: ProcAddr(0x50_0000 + n * 64), array: n.is_multiple_of(3) }
}
