//! Values the user side gives the kernel side, one row per target slot.

/// Targets one session can have.
pub const MAX_TARGETS: u32 = 16;
/// Probes one session can have: the widest Go (1.27) needs 18 allocation, 7 map and 2 goroutine probes.
pub const MAX_PROBES: u32 = 256;

/// Rows of the tables that hold one for each probe: those of a session, and behind them those with which it measures what a hit costs.
pub const PROBE_ROWS: u32 = MAX_PROBES + 8;
/// The slot of tracer's own process, for those.
pub const OWN_SLOT: u16 = (MAX_TARGETS - 1) as u16;
/// Of so many hits of a probe on one CPU one is timed: two looks at the clock cost a tenth of a hit.
pub const TIMED_EACH: u64 = 64;
/// A hit that took longer was interrupted or preempted, and says nothing of the program.
pub const TIMED_AT_MOST_NS: u64 = 100_000;

/// Timed hits of one probe.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// All of them together.
    pub ns: u64,
    pub hits: u64,
}

/// Entries of the two tables that map a size to its class, and of the table of class sizes.
/// The runtime splits at 1024 bytes: steps of 8 below, of 128 above (internal/runtime/gc, sizeclasses.go).
pub const SMALL_STEPS: usize = 129;
pub const LARGE_STEPS: usize = 249;
pub const CLASSES: usize = 68;

/// What the kernel side must know to treat one target.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TargetControl {
    /// The target's pid in its own (innermost) pid namespace.
    pub tgid: u32,
    /// Stamped into every record; raised with every change of plan.
    pub epoch: u32,
    /// Device and inode of the target's pid namespace, as stat of /proc/PID/ns/pid shows them.
    pub pidns_dev: u64,
    pub pidns_ino: u64,
    /// Offset of the creation site in a g.
    pub g_gopc: u32,
    /// Offset in a g of the end of its stack.
    pub g_stack_hi: u32,
    /// Code that a stack does not go on beyond; see [`CodeRange`].
    pub stack_ends: [CodeRange; STACK_ENDS],
    pub alloc: AllocControl,
    pub sample: SampleControl,
}

impl TargetControl {
    /// A row that says whose it is and nothing else: enough where hits are only counted.
    pub const fn only(tgid: u32, pidns_dev: u64, pidns_ino: u64) -> Self {
        Self {
            tgid,
            epoch: 1,
            pidns_dev,
            pidns_ino,
            g_gopc: 0,
            g_stack_hi: 0,
            stack_ends: [CodeRange { from: 0, bytes: 0 }; STACK_ENDS],
            alloc: AllocControl {
                tiny_below: 0,
                max_small: 0,
                header_above: 0,
                header_bytes: 0,
                type_ptr_bytes: 0,
                page_bytes: 0,
                class_of_step8: [0; SMALL_STEPS],
                class_of_step128: [0; LARGE_STEPS],
                padding: [0; 6],
            },
            sample: SampleControl { mean: 0, marking: 0, generation: 0 },
        }
    }
}

/// What sampled allocations need.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SampleControl {
    /// Mean bytes between two samples; 0: none are taken.
    pub mean: u64,
    /// Where the target keeps a 32-bit word that is not 0 while its collector marks.
    pub marking: u64,
    /// Where it keeps the 32-bit number of its heap's sweep generation.
    pub generation: u64,
}

/// What a call in the program's code allocates, by the probe's number.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct PinControl {
    /// The type descriptor it passes; 0: none, or it is not known.
    pub type_addr: u64,
    /// Bytes it asks for; 0: known only while the program runs.
    pub size: u64,
    /// Mean calls between two samples; 0: none are taken, calls are counted.
    pub mean: u64,
    /// Behind the call.
    pub returns_to: u64,
    /// How often the mean was changed: samples say under which they were taken.
    pub era: u16,
    pub padding: [u16; 3],
}

/// Pieces of code whose callers are not on the stack: where a thread's stack begins, or where it was switched.
pub const STACK_ENDS: usize = 4;

/// Addresses in the target, `from` included; 0 bytes: none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CodeRange {
    pub from: u64,
    pub bytes: u64,
}

/// How this target's allocator rounds sizes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AllocControl {
    /// Below this size an object without pointers goes to the tiny allocator.
    pub tiny_below: u32,
    /// Largest size that gets a size class; above it whole pages.
    pub max_small: u32,
    /// An object with pointers larger than this carries a malloc header; `u32::MAX` where there are none.
    pub header_above: u32,
    pub header_bytes: u32,
    /// Offset in a type descriptor of the count of bytes that can hold pointers.
    pub type_ptr_bytes: u32,
    pub page_bytes: u32,
    pub class_of_step8: [u8; SMALL_STEPS],
    pub class_of_step128: [u8; LARGE_STEPS],
    pub padding: [u8; 6],
}

const _: () = assert!(size_of::<AllocControl>() == 24 + SMALL_STEPS + LARGE_STEPS + 6);
const _: () = assert!(size_of::<PinControl>() == 40);
const _: () = assert!(size_of::<Times>() == 16);
const _: () = assert!(size_of::<TargetControl>() == 32 + 16 * STACK_ENDS + 24 + 384 + 24);
