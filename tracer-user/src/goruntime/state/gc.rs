//! GC cycles, pauses and heap figures from `memstats`, `gcController` and `work`.
//!
//! Apart from the heap statistics because these are words of their own that change once per cycle. A reading
//! belongs to the cycle it names: `numgc` is read before and after, and a cycle that ended in between makes it
//! start again.

use super::block::Block;
use super::{StateError, StateVars, heap_stats};
use crate::goruntime::layout::Layout;
use crate::memory::ReadAt;
use crate::record::reading::Gc;
use crate::units::{Bytes, ProcAddr};

/// Pauses the runtime keeps (runtime/mstats.go, `pause_ns [256]uint64`).
const RING: u32 = 256;
/// The runtime stores this for "no memory limit" (`math.MaxInt64`).
const NO_MEMORY_LIMIT: u64 = i64::MAX as u64;
/// A cycle ends at most every few milliseconds; three in a row between two reads do not happen.
const ATTEMPTS: usize = 4;

/// What was read at one moment.
pub(super) struct Blocks {
    /// `gcController`, whole.
    controller: Vec<u8>,
    /// `memstats` from `last_gc_unix` to `gc_cpu_fraction`.
    stats: Vec<u8>,
    cycles: [u8; 4],
    /// `numgc` behind them.
    after: [u8; 4],
}

pub fn read(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
    previous_cycle: Option<u32>,
) -> Result<Gc, StateError> {
    const WHAT: &str = "GC statistics";
    for _ in 0..ATTEMPTS {
        let in_stacks = heap_stats::in_stacks(memory, layout, vars)?;
        let blocks = read_blocks(memory, layout, vars)?;
        let after = u32::from_le_bytes(blocks.after);
        let gc = decode(&blocks, layout, in_stacks, previous_cycle)?;
        if gc.cycles == after {
            return Ok(gc);
        }
    }
    Err(StateError::Torn { what: WHAT })
}

/// One system call for the three variables, one after the other.
pub(super) fn read_blocks(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
) -> Result<Blocks, StateError> {
    let stats_from = layout.memstats_last_gc_unix;
    let stats_to = layout.memstats_gc_cpu_fraction + 8;
    let mut blocks = Blocks {
        controller: vec![0; layout.gc_size as usize],
        stats: vec![0; (stats_to - stats_from) as usize],
        cycles: [0; 4],
        after: [0; 4],
    };
    let answers = memory.read_many(&mut [
        (vars.memstats.plus(u64::from(stats_from)), &mut blocks.stats[..]),
        (vars.gc_controller, &mut blocks.controller[..]),
        (vars.work.plus(u64::from(layout.work_cycles)), &mut blocks.cycles[..]),
        (vars.memstats.plus(u64::from(layout.memstats_numgc)), &mut blocks.after[..]),
    ]);
    for (what, answer) in
        ["memstats", "gcController", "work.cycles", "memstats.numgc"].into_iter().zip(answers)
    {
        answer.map_err(StateError::reading(what))?;
    }
    Ok(blocks)
}

/// Makes figures of the blocks, or says which of them cannot be.
pub(super) fn decode(
    blocks: &Blocks,
    layout: &Layout,
    in_stacks: Bytes,
    previous_cycle: Option<u32>,
) -> Result<Gc, StateError> {
    let wrong = |check: &'static str, found: String| StateError::Layout { minor: layout.minor, check, found };
    let fields = Fields::of(blocks, layout)
        .ok_or_else(|| wrong("the GC variables have their full size", "fewer bytes".into()))?;
    let Fields { numgc, forced, cycles, gogc, heap_marked, mapped_ready, .. } = fields;
    // work.cycles counts when a cycle starts, numgc when its mark phase has ended (runtime/mgc.go).
    if cycles.wrapping_sub(numgc) > 1 {
        return Err(wrong("memstats.numgc follows work.cycles", format!("{numgc} and {cycles}")));
    }
    if forced > numgc.saturating_add(1) {
        return Err(wrong("numforcedgc is at most numgc", format!("{forced} of {numgc}")));
    }
    if gogc < -1 {
        return Err(wrong("GOGC is a percentage or off", gogc.to_string()));
    }
    // What was live stays in mapped spans until the next sweep, which is after the next heapMarked.
    if heap_marked > mapped_ready {
        return Err(wrong(
            "gcController.heapMarked fits in mapped memory",
            format!("{heap_marked} of {mapped_ready}"),
        ));
    }
    if (numgc > 0) != (fields.last_gc_unix > 0) && cycles == numgc {
        return Err(wrong(
            "last_gc_unix is set with the first cycle",
            format!("{numgc} cycles, time {}", fields.last_gc_unix),
        ));
    }
    Ok(Gc {
        cycles: numgc,
        forced,
        heap_marked: Bytes(heap_marked),
        heap_live: Bytes(fields.heap_live),
        goal: fields.goal(layout.minor).map(Bytes),
        in_use: Bytes(fields.heap_in_use),
        free: Bytes(fields.heap_free),
        released: Bytes(fields.heap_released),
        mapped_ready: Bytes(mapped_ready),
        in_stacks,
        gogc,
        memory_limit: (fields.memory_limit < NO_MEMORY_LIMIT).then_some(Bytes(fields.memory_limit)),
        last_gc_unix_ns: (fields.last_gc_unix > 0).then_some(fields.last_gc_unix),
        new_pauses_ns: new_pauses(blocks, layout, numgc, previous_cycle),
        cpu_fraction: Some(fields.cpu_fraction).filter(|f| (0.0..=1.0).contains(f)),
    })
}

/// The words of the three variables.
struct Fields {
    numgc: u32,
    forced: u32,
    cycles: u32,
    last_gc_unix: u64,
    cpu_fraction: f64,
    gogc: i32,
    memory_limit: u64,
    percent_goal: u64,
    sweep_dist_min_trigger: u64,
    triggered: u64,
    heap_live: u64,
    heap_marked: u64,
    heap_in_use: u64,
    heap_released: u64,
    heap_free: u64,
    total_alloc: u64,
    total_free: u64,
    mapped_ready: u64,
}

impl Fields {
    fn of(blocks: &Blocks, layout: &Layout) -> Option<Self> {
        let c = Block(&blocks.controller);
        let s = Block(&blocks.stats);
        let stats = |offset: u32| offset - layout.memstats_last_gc_unix;
        Some(Self {
            numgc: s.u32(stats(layout.memstats_numgc))?,
            forced: s.u32(stats(layout.memstats_numforcedgc))?,
            cycles: u32::from_le_bytes(blocks.cycles),
            last_gc_unix: s.u64(stats(layout.memstats_last_gc_unix))?,
            cpu_fraction: f64::from_bits(s.u64(stats(layout.memstats_gc_cpu_fraction))?),
            gogc: c.u32(layout.gc_percent)?.cast_signed(),
            memory_limit: c.u64(layout.gc_memory_limit)?,
            percent_goal: c.u64(layout.gc_percent_heap_goal)?,
            sweep_dist_min_trigger: c.u64(layout.gc_sweep_dist_min_trigger)?,
            triggered: c.u64(layout.gc_triggered)?,
            heap_live: c.u64(layout.gc_heap_live)?,
            heap_marked: c.u64(layout.gc_heap_marked)?,
            heap_in_use: c.u64(layout.gc_heap_in_use)?,
            heap_released: c.u64(layout.gc_heap_released)?,
            heap_free: c.u64(layout.gc_heap_free)?,
            total_alloc: c.u64(layout.gc_total_alloc)?,
            total_free: c.u64(layout.gc_total_free)?,
            mapped_ready: c.u64(layout.gc_mapped_ready)?,
        })
    }

    /// The heap goal as `heapGoalInternal` of runtime/mgcpacer.go computes it; absent when the GC is off.
    fn goal(&self, minor: u32) -> Option<u64> {
        const MIN_RUNWAY: u64 = 64 << 10;
        let by_limit = self.goal_of_memory_limit(minor);
        let goal = if by_limit < self.percent_goal {
            by_limit
        } else {
            let goal = self.percent_goal.max(self.sweep_dist_min_trigger);
            if self.triggered == u64::MAX {
                goal
            } else {
                goal.max(self.triggered.saturating_add(MIN_RUNWAY))
            }
        };
        // GOGC=off stores the largest number, and without a limit nothing lowers it.
        (goal < 1 << 62).then_some(goal)
    }

    /// `memoryLimitHeapGoal` of runtime/mgcpacer.go.
    fn goal_of_memory_limit(&self, minor: u32) -> u64 {
        const MIN_HEADROOM: u64 = 1 << 20;
        let heap_alloc = self.total_alloc.saturating_sub(self.total_free);
        let non_heap = self.mapped_ready.saturating_sub(self.heap_free).saturating_sub(heap_alloc);
        let overage = self.mapped_ready.saturating_sub(self.memory_limit);
        let taken = non_heap.saturating_add(overage);
        if taken >= self.memory_limit {
            return self.heap_marked;
        }
        let goal = self.memory_limit - taken;
        // 3 % since Go 1.21, a fixed MiB before.
        let headroom = if minor >= 21 { (goal / 100 * 3).max(MIN_HEADROOM) } else { MIN_HEADROOM };
        let goal = if goal < headroom || goal - headroom < headroom { headroom } else { goal - headroom };
        goal.max(self.heap_marked)
    }
}

/// Pauses of the cycles after `previous`, oldest first. Cycle n (counted from 0) is at n % 256.
fn new_pauses(blocks: &Blocks, layout: &Layout, numgc: u32, previous: Option<u32>) -> Vec<u64> {
    let ring = layout.memstats_pause_ns - layout.memstats_last_gc_unix;
    let new = numgc.saturating_sub(previous.unwrap_or(0)).min(RING);
    (numgc - new..numgc).filter_map(|n| Block(&blocks.stats).u64(ring + 8 * (n % RING))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout() -> &'static Layout {
        Layout::for_minor(26).unwrap()
    }

    fn blocks(numgc: u32) -> Blocks {
        let l = layout();
        let mut b = Blocks {
            controller: vec![0; l.gc_size as usize],
            stats: vec![0; (l.memstats_gc_cpu_fraction + 8 - l.memstats_last_gc_unix) as usize],
            cycles: numgc.to_le_bytes(),
            after: numgc.to_le_bytes(),
        };
        let from = l.memstats_last_gc_unix;
        put(&mut b.stats, l.memstats_numgc - from, &numgc.to_le_bytes());
        put(&mut b.stats, 0, &u64::from(numgc).to_le_bytes());
        for n in numgc.saturating_sub(RING)..numgc {
            let at = l.memstats_pause_ns - from + 8 * (n % RING);
            put(&mut b.stats, at, &u64::from(n + 1000).to_le_bytes());
        }
        put(&mut b.controller, l.gc_percent, &100_i32.to_le_bytes());
        put(&mut b.controller, l.gc_memory_limit, &i64::MAX.to_le_bytes());
        put(&mut b.controller, l.gc_percent_heap_goal, &(4_u64 << 20).to_le_bytes());
        put(&mut b.controller, l.gc_triggered, &u64::MAX.to_le_bytes());
        put(&mut b.controller, l.gc_mapped_ready, &(8_u64 << 20).to_le_bytes());
        b
    }

    fn put(block: &mut [u8], at: u32, bytes: &[u8]) {
        block[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn decoded(b: &Blocks, previous: Option<u32>) -> Result<Gc, StateError> {
        decode(b, layout(), Bytes(0), previous)
    }

    #[test]
    fn pauses_come_oldest_first_and_only_new_ones() {
        assert_eq!(decoded(&blocks(0), None).unwrap().new_pauses_ns, [0_u64; 0]);
        assert_eq!(decoded(&blocks(3), None).unwrap().new_pauses_ns, [1000, 1001, 1002]);
        assert_eq!(decoded(&blocks(300), Some(297)).unwrap().new_pauses_ns, [1297, 1298, 1299]);
        assert_eq!(decoded(&blocks(300), Some(300)).unwrap().new_pauses_ns, [0_u64; 0]);
        let all = decoded(&blocks(300), Some(2)).unwrap().new_pauses_ns;
        assert_eq!((all.len(), all[0], all[255]), (256, 1044, 1299));
    }

    #[test]
    fn before_the_first_cycle_nothing_is_known_of_the_last() {
        let gc = decoded(&blocks(0), None).unwrap();
        assert_eq!((gc.cycles, gc.last_gc_unix_ns, gc.memory_limit), (0, None, None));
        assert_eq!(gc.goal, Some(Bytes(4 << 20)));
    }

    #[test]
    fn figures_that_cannot_be_are_refused_by_name() {
        let l = layout();
        let refused = |b: &Blocks| match decoded(b, None) {
            Err(StateError::Layout { check, .. }) => check,
            other => panic!("{other:?}"),
        };
        let mut b = blocks(5);
        b.cycles = 7_u32.to_le_bytes();
        assert!(refused(&b).contains("work.cycles"));
        b.cycles = 4_u32.to_le_bytes();
        assert!(refused(&b).contains("work.cycles"));
        let mut b = blocks(5);
        put(&mut b.controller, l.gc_percent, &(-2_i32).to_le_bytes());
        assert!(refused(&b).contains("GOGC"));
        let mut b = blocks(5);
        put(&mut b.controller, l.gc_heap_marked, &(9_u64 << 20).to_le_bytes());
        assert!(refused(&b).contains("heapMarked"));
        let mut b = blocks(5);
        put(&mut b.stats, 0, &0_u64.to_le_bytes());
        assert!(refused(&b).contains("last_gc_unix"));
    }

    #[test]
    fn a_memory_limit_lowers_the_goal_as_the_pacer_does() {
        let l = layout();
        let mut b = blocks(5);
        put(&mut b.controller, l.gc_memory_limit, &(64_u64 << 20).to_le_bytes());
        put(&mut b.controller, l.gc_percent_heap_goal, &u64::MAX.to_le_bytes());
        put(&mut b.controller, l.gc_total_alloc, &(6_u64 << 20).to_le_bytes());
        // 64 MiB - (8 - 6) MiB outside the heap, less 3 %.
        let goal = (62_u64 << 20) - (62_u64 << 20) / 100 * 3;
        let gc = decoded(&b, None).unwrap();
        assert_eq!((gc.goal, gc.memory_limit), (Some(Bytes(goal)), Some(Bytes(64 << 20))));
    }

    #[test]
    fn gc_off_has_no_goal() {
        let mut b = blocks(5);
        put(&mut b.controller, layout().gc_percent, &(-1_i32).to_le_bytes());
        put(&mut b.controller, layout().gc_percent_heap_goal, &u64::MAX.to_le_bytes());
        let gc = decoded(&b, None).unwrap();
        assert_eq!((gc.goal, gc.gogc), (None, -1));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(
            controller in proptest::collection::vec(any::<u8>(), 0..500),
            stats in proptest::collection::vec(any::<u8>(), 0..4300),
            cycles in any::<[u8; 4]>(),
            previous in any::<Option<u32>>(),
            minor in 19_u32..=27,
        ) {
            let blocks = Blocks { controller, stats, cycles, after: [0; 4] };
            if let Ok(gc) = decode(&blocks, Layout::for_minor(minor).unwrap(), Bytes(0), previous) {
                prop_assert!(gc.new_pauses_ns.len() <= RING as usize);
            }
        }
    }
}
