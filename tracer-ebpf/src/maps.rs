//! Every kernel map, with the arithmetic of its capacity, and the two counters that everything uses.
//!
//! Programs may be preempted by another task that hits a probe on the same CPU (they run with migration, not
//! preemption, disabled), so per-CPU values are added to atomically and scratch space is taken by owner.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tracer_common::{
    control::{MAX_PROBES, MAX_TARGETS, PROBE_ROWS, PinControl, TIMED_AT_MOST_NS, TIMED_EACH, TargetControl, Times},
    counter::Counter,
    key::{AllocKey, AllocValue, GoKey, GoValue, MapKey, Pending, PendingKey},
};

use crate::{atomic, stack::Scratch};

/// 4 MiB holds 4 000 of the largest records; it is drained every millisecond and carries new stacks only.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// One row per target of the session.
#[map]
pub static TARGETS: Array<TargetControl> = Array::with_max_entries(MAX_TARGETS, 0);

/// Hits per probe. 264 x 8 B per CPU.
#[map]
static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(PROBE_ROWS, 0);

/// How long the program itself took, by probe. 264 x 16 B per CPU.
#[map]
static TIMES: PerCpuArray<Times> = PerCpuArray::with_max_entries(PROBE_ROWS, 0);

/// Losses by [`Counter`].
#[map]
static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// Allocations. A large service has some thousand stacks times types times classes: 32 768 keys, which take
/// 2 MiB and 0.8 MiB for each CPU. A full table loses sites, never the probes' hits. The user side makes this
/// table and the next one entry small in sessions that do not fill them.
#[map]
pub static ALLOCS: PerCpuHashMap<AllocKey, AllocValue> = PerCpuHashMap::with_max_entries(32_768, 0);

/// Writes to, deletions from and growths of maps, by stack and map.
#[map]
pub static MAP_CALLS: PerCpuHashMap<MapKey, u64> = PerCpuHashMap::with_max_entries(16_384, 0);

/// Goroutines by creation site: `go` statements in the binary, some hundreds.
#[map]
pub static GOROUTINES: PerCpuHashMap<GoKey, GoValue> = PerCpuHashMap::with_max_entries(8_192, 0);

/// Stacks already sent. One that falls out is sent again, which costs a record and loses nothing.
#[map]
pub static SENT: LruHashMap<u64, u8> = LruHashMap::with_max_entries(65_536, 0);

/// Bytes left to the next sample, per target; the user side draws the first ones. 16 x 8 B per CPU.
#[map]
pub static DISTANCES: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_TARGETS, 0);

/// What pinned calls allocate, by probe. 256 x 40 B.
#[map]
pub static PINS: Array<PinControl> = Array::with_max_entries(MAX_PROBES, 0);

/// Bytes left to the next sample of a pinned call, by probe; the user side draws the first ones. 256 x 8 B per CPU.
#[map]
pub static PIN_DISTANCES: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_PROBES, 0);

/// Sampled allocations on their way to an address: one per goroutine that is inside the allocator and was sampled. Even
/// where thousands wait there to assist the collector, few of them are sampled. 4 096 x 64 B; one entry small where
/// nothing is sampled.
#[map]
pub static PENDING: HashMap<PendingKey, Pending> = HashMap::with_max_entries(4_096, 0);

/// Buffers for one stack each; see [`crate::stack::SCRATCHES`] for why there are several.
#[map]
pub static SCRATCH: PerCpuArray<[Scratch; crate::stack::SCRATCHES]> = PerCpuArray::with_max_entries(1, 0);

/// Adds to a per-CPU word that a preempting probe on this CPU may add to as well.
#[inline(always)]
pub fn add(word: *mut u64, n: u64) {
    // SAFETY: `word` is a map value of this CPU, aligned, alive for the whole program run.
    unsafe { atomic::add(word, n) };
}

/// Counts a hit of probe `index`; whether this one is timed.
#[inline(always)]
pub fn hit(index: u16) -> bool {
    let Some(word) = HITS.get_ptr_mut(u32::from(index)) else {
        return false;
    };
    // SAFETY: a word of this CPU's map value, aligned.
    let before = unsafe { atomic::fetch_add(word, 1) };
    before % TIMED_EACH == TIMED_EACH - 1
}

/// Keeps how long the program took for a timed hit of probe `index`; not where another task had the CPU meanwhile.
#[inline(always)]
pub fn took(index: u16, ns: u64) {
    if ns > TIMED_AT_MOST_NS {
        return;
    }
    if let Some(times) = TIMES.get_ptr_mut(u32::from(index)) {
        // SAFETY: this CPU's map value; the fields are aligned words.
        unsafe {
            add(&raw mut (*times).ns, ns);
            add(&raw mut (*times).hits, 1);
        }
    }
}

/// Counts a loss.
#[inline(always)]
pub fn lose(counter: Counter) {
    if let Some(word) = LOSSES.get_ptr_mut(counter as u32) {
        add(word, 1);
    }
}

/// The value of `key`, made zero where there is none yet. `None`: the table is full.
#[inline(always)]
pub fn entry<K, V: Default>(map: &PerCpuHashMap<K, V>, key: &K) -> Option<*mut V> {
    if let Some(value) = map.get_ptr_mut(key) {
        return Some(value);
    }
    // Another CPU may insert the same key at the same time: then this fails and the look-up below succeeds.
    const BPF_NOEXIST: u64 = 1;
    let _exists = map.insert(key, &V::default(), BPF_NOEXIST).is_err();
    map.get_ptr_mut(key)
}
