//! Where the fields of the Go runtime's structures lie, one column per Go minor version, linux/amd64.
//!
//! GENERATED: the numbers come from the DWARF of one program built by each version, by `cargo xtask layouts`, and
//! `tests/tests/live/layouts.rs` compares them again. A field is added by a line of its own, with any numbers; then run
//! the task. Apart from `layout` because this is a table: it never decides anything. Files are below `src/` of the
//! Go tree of that version. Each structure is a subset of the target's. linux/arm64 is not covered: it pads cache
//! lines more, which moves at least `mheap_arenas` and `mheap_central`.
//!
//! Go: 1.19.8 1.20.14 1.21.13 1.22.10 1.23.9 1.24.11 1.25.5 1.26.8 1.27.3.
#![expect(clippy::unreadable_literal, reason = "numbers as the generator writes them")]

/// Declares [`Layout`] with a field per line, [`ROWS`], and the list of fields with their DWARF paths.
macro_rules! layout {
    ($( $field:ident: $ty:ty, $path:literal = [$($value:expr),* $(,)?]; )*) => {
        /// Byte offsets in the runtime of one Go minor version; `*_size` are sizes. Absent where that
        /// version has no such field.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct Layout {
            /// The `27` of `go1.27`.
            pub minor: u32,
            $(
                #[doc = concat!("`", $path, "`")]
                pub $field: $ty,
            )*
        }

        impl Layout {
            /// Each field as (path in the DWARF, offset), for checking against a built program.
            pub fn fields(&self) -> Vec<(&'static str, Option<u32>)> {
                vec![$( ($path, self.$field.into()) ),*]
            }

            /// The row of a version by what `offset` says of each path, or the first path that must have an answer
            /// and has none.
            pub(super) fn derived(
                minor: u32,
                offset: impl Fn(&str) -> Option<u32>,
            ) -> Result<Self, &'static str> {
                Ok(Self { minor, $( $field: Field::of(offset($path)).ok_or($path)?, )* })
            }
        }

        const fn row(column: usize) -> Layout {
            Layout {
                minor: OLDEST_MINOR + column as u32,
                $( $field: [$($value),*][column], )*
            }
        }
    };
}

/// What a field holds: an offset, or an offset that not every version has.
trait Field: Sized {
    fn of(offset: Option<u32>) -> Option<Self>;
}

impl Field for u32 {
    fn of(offset: Option<u32>) -> Option<Self> {
        offset
    }
}

impl Field for Option<u32> {
    fn of(offset: Option<u32>) -> Option<Self> {
        Some(offset)
    }
}

/// The first column of the table.
pub(super) const OLDEST_MINOR: u32 = 19;

/// One row per minor version, oldest first.
pub(super) static ROWS: [Layout; 9] =
    [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7), row(8)];

/// go1.22 with GOEXPERIMENT=noallocheaders: its row, but for these. From go1.23 on there is no such experiment.
#[rustfmt::skip]
pub(super) static NO_ALLOC_HEADERS_22: Layout = Layout {
    heap_arena_scalar_bitmap: Some(0),
    heap_arena_spans: 1064960,
    ..row(3)
};

/// go1.25 with GOEXPERIMENT=greenteagc: its row, but for these. From go1.26 on both collectors share one layout.
#[rustfmt::skip]
pub(super) static GREEN_TEA_25: Layout = Layout {
    memstats_size: 10440,
    work_cycles: 608,
    work_user_forced: 496,
    ..row(6)
};

#[rustfmt::skip]
layout! {
    // Columns: 1.19, 1.20, 1.21, 1.22, 1.23, 1.24, 1.25, 1.26, 1.27.
    // goroutine: runtime/runtime2.go, type g, gobuf, stack.
    g_stack_lo: u32, "runtime.g.stack.lo" = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    g_stack_hi: u32, "runtime.g.stack.hi" = [8, 8, 8, 8, 8, 8, 8, 8, 8];
    g_m: u32, "runtime.g.m" = [48, 48, 48, 48, 48, 48, 48, 48, 48];
    g_sched_sp: u32, "runtime.g.sched.sp" = [56, 56, 56, 56, 56, 56, 56, 56, 56];
    g_sched_pc: u32, "runtime.g.sched.pc" = [64, 64, 64, 64, 64, 64, 64, 64, 64];
    g_sched_bp: u32, "runtime.g.sched.bp" = [104, 104, 104, 104, 104, 104, 96, 96, 96];
    g_syscallsp: u32, "runtime.g.syscallsp" = [112, 112, 112, 112, 112, 112, 104, 104, 104];
    g_syscallpc: u32, "runtime.g.syscallpc" = [120, 120, 120, 120, 120, 120, 112, 112, 112];
    g_syscallbp: Option<u32>, "runtime.g.syscallbp" = [None, None, None, None, Some(128), Some(128), Some(120), Some(120), Some(120)];
    g_param: u32, "runtime.g.param" = [136, 136, 136, 136, 144, 144, 136, 136, 136];
    g_atomicstatus: u32, "runtime.g.atomicstatus" = [144, 144, 144, 144, 152, 152, 144, 144, 144];
    g_goid: u32, "runtime.g.goid" = [152, 152, 152, 152, 160, 160, 152, 152, 152];
    g_waitsince: u32, "runtime.g.waitsince" = [168, 168, 168, 168, 176, 176, 168, 168, 168];
    g_waitreason: u32, "runtime.g.waitreason" = [176, 176, 176, 176, 184, 184, 176, 176, 176];
    g_tracking_seq: u32, "runtime.g.trackingSeq" = [189, 189, 188, 191, 199, 199, 191, 191, 191];
    g_parent_goid: Option<u32>, "runtime.g.parentGoid" = [None, None, Some(272), Some(272), Some(280), Some(280), Some(272), Some(280), Some(280)];
    g_gopc: u32, "runtime.g.gopc" = [296, 296, 280, 280, 288, 288, 280, 288, 288];
    g_startpc: u32, "runtime.g.startpc" = [312, 312, 296, 296, 304, 304, 296, 304, 304];
    g_waiting: u32, "runtime.g.waiting" = [328, 328, 312, 312, 320, 320, 312, 320, 320];
    g_labels: u32, "runtime.g.labels" = [360, 360, 344, 344, 352, 352, 344, 352, 352];
    g_size: u32, "runtime.g.sizeof" = [392, 392, 408, 424, 432, 440, 440, 456, 456];

    // threads and processors: runtime/runtime2.go, types m and p.
    m_g0: u32, "runtime.m.g0" = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    m_procid: u32, "runtime.m.procid" = [72, 72, 72, 72, 72, 72, 64, 64, 64];
    m_curg: u32, "runtime.m.curg" = [192, 192, 192, 192, 192, 192, 184, 184, 184];
    m_p: u32, "runtime.m.p" = [208, 208, 208, 208, 208, 208, 200, 208, 208];
    m_id: u32, "runtime.m.id" = [232, 232, 232, 232, 232, 232, 224, 232, 232];
    m_mallocing: u32, "runtime.m.mallocing" = [240, 240, 240, 240, 240, 240, 232, 240, 240];
    p_id: u32, "runtime.p.id" = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    p_status: u32, "runtime.p.status" = [4, 4, 4, 4, 4, 4, 4, 4, 4];
    p_m: u32, "runtime.p.m" = [56, 56, 56, 56, 48, 48, 48, 48, 48];
    p_mcache: u32, "runtime.p.mcache" = [64, 64, 64, 64, 56, 56, 56, 56, 56];

    // what a goroutine waits on: runtime/runtime2.go, type sudog; runtime/chan.go, type hchan.
    sudog_g: u32, "runtime.sudog.g" = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    sudog_elem: u32, "runtime.sudog.elem" = [24, 24, 24, 24, 24, 24, 24, 24, 24];
    sudog_waitlink: u32, "runtime.sudog.waitlink" = [64, 64, 64, 64, 64, 64, 64, 72, 72];
    sudog_c: u32, "runtime.sudog.c" = [80, 80, 80, 80, 80, 80, 80, 88, 88];
    sudog_is_select: u32, "runtime.sudog.isSelect" = [52, 52, 52, 52, 52, 52, 52, 60, 60];
    hchan_qcount: u32, "runtime.hchan.qcount" = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    hchan_dataqsiz: u32, "runtime.hchan.dataqsiz" = [8, 8, 8, 8, 8, 8, 8, 8, 8];
    hchan_closed: u32, "runtime.hchan.closed" = [28, 28, 28, 28, 28, 28, 28, 28, 28];
    hchan_elemtype: u32, "runtime.hchan.elemtype" = [32, 32, 32, 32, 40, 40, 40, 40, 40];
    hchan_recvq: u32, "runtime.hchan.recvq" = [56, 56, 56, 56, 64, 64, 64, 64, 64];
    hchan_sendq: u32, "runtime.hchan.sendq" = [72, 72, 72, 72, 80, 80, 80, 80, 80];

    // GC pacer: runtime/mgcpacer.go, type gcControllerState.
    gc_percent: u32, "runtime.gcControllerState.gcPercent" = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    gc_memory_limit: u32, "runtime.gcControllerState.memoryLimit" = [8, 8, 8, 8, 8, 8, 8, 8, 8];
    gc_percent_heap_goal: u32, "runtime.gcControllerState.gcPercentHeapGoal" = [104, 48, 72, 72, 72, 72, 72, 72, 72];
    gc_sweep_dist_min_trigger: u32, "runtime.gcControllerState.sweepDistMinTrigger" = [112, 56, 80, 80, 80, 80, 80, 80, 80];
    gc_triggered: u32, "runtime.gcControllerState.triggered" = [120, 64, 88, 88, 88, 88, 88, 88, 88];
    gc_heap_live: u32, "runtime.gcControllerState.heapLive" = [136, 80, 104, 104, 104, 104, 104, 104, 104];
    gc_heap_marked: u32, "runtime.gcControllerState.heapMarked" = [184, 128, 152, 152, 152, 152, 152, 152, 152];
    gc_heap_in_use: u32, "runtime.gcControllerState.heapInUse" = [304, 248, 272, 272, 272, 272, 272, 272, 272];
    gc_heap_released: u32, "runtime.gcControllerState.heapReleased" = [312, 256, 280, 280, 280, 280, 280, 280, 280];
    gc_heap_free: u32, "runtime.gcControllerState.heapFree" = [320, 264, 288, 288, 288, 288, 288, 288, 288];
    gc_total_alloc: u32, "runtime.gcControllerState.totalAlloc" = [328, 272, 296, 296, 296, 296, 296, 296, 296];
    gc_total_free: u32, "runtime.gcControllerState.totalFree" = [336, 280, 304, 304, 304, 304, 304, 304, 304];
    gc_mapped_ready: u32, "runtime.gcControllerState.mappedReady" = [344, 288, 312, 312, 312, 312, 312, 312, 312];
    gc_size: u32, "runtime.gcControllerState.sizeof" = [424, 368, 392, 392, 392, 392, 392, 392, 392];

    // statistics: runtime/mstats.go, types mstats and consistentHeapStats.
    memstats_heap_stats: u32, "runtime.mstats.heapStats" = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    memstats_heap_stats_gen: u32, "runtime.mstats.heapStats.gen" = [3528, 3528, 3528, 3528, 3528, 3528, 3504, 3504, 3504];
    memstats_stacks_sys: u32, "runtime.mstats.stacks_sys" = [3544, 3544, 3544, 3544, 3544, 3544, 3520, 3520, 3520];
    memstats_last_gc_unix: u32, "runtime.mstats.last_gc_unix" = [3592, 3592, 3592, 3592, 3592, 3592, 3568, 3568, 3568];
    memstats_pause_ns: u32, "runtime.mstats.pause_ns" = [3608, 3608, 3608, 3608, 3608, 3608, 3584, 3584, 3584];
    memstats_pause_end: u32, "runtime.mstats.pause_end" = [5656, 5656, 5656, 5656, 5656, 5656, 5632, 5632, 5632];
    memstats_numgc: u32, "runtime.mstats.numgc" = [7704, 7704, 7704, 7704, 7704, 7704, 7680, 7680, 7680];
    memstats_numforcedgc: u32, "runtime.mstats.numforcedgc" = [7708, 7708, 7708, 7708, 7708, 7708, 7684, 7684, 7684];
    memstats_gc_cpu_fraction: u32, "runtime.mstats.gc_cpu_fraction" = [7712, 7712, 7712, 7712, 7712, 7712, 7688, 7688, 7688];
    memstats_size: u32, "runtime.mstats.sizeof" = [13512, 9040, 9040, 7744, 7744, 7744, 8264, 10440, 10440];

    // one slot of the heap statistics: runtime/mstats.go, type heapStatsDelta.
    delta_in_heap: u32, "runtime.heapStatsDelta.inHeap" = [16, 16, 16, 16, 16, 16, 16, 16, 16];
    delta_in_stacks: u32, "runtime.heapStatsDelta.inStacks" = [24, 24, 24, 24, 24, 24, 24, 24, 24];
    delta_tiny_alloc_count: u32, "runtime.heapStatsDelta.tinyAllocCount" = [48, 48, 48, 48, 48, 48, 40, 40, 40];
    delta_large_alloc: u32, "runtime.heapStatsDelta.largeAlloc" = [56, 56, 56, 56, 56, 56, 48, 48, 48];
    delta_large_alloc_count: u32, "runtime.heapStatsDelta.largeAllocCount" = [64, 64, 64, 64, 64, 64, 56, 56, 56];
    delta_small_alloc_count: u32, "runtime.heapStatsDelta.smallAllocCount" = [72, 72, 72, 72, 72, 72, 64, 64, 64];
    delta_large_free: u32, "runtime.heapStatsDelta.largeFree" = [616, 616, 616, 616, 616, 616, 608, 608, 608];
    delta_large_free_count: u32, "runtime.heapStatsDelta.largeFreeCount" = [624, 624, 624, 624, 624, 624, 616, 616, 616];
    delta_small_free_count: u32, "runtime.heapStatsDelta.smallFreeCount" = [632, 632, 632, 632, 632, 632, 624, 624, 624];
    delta_size: u32, "runtime.heapStatsDelta.sizeof" = [1176, 1176, 1176, 1176, 1176, 1176, 1168, 1168, 1168];

    // the GC's own state: runtime/mgc.go, type workType (an unnamed struct before).
    work_cycles: u32, "runtime.work.cycles" = [344, 336, 400, 400, 424, 424, 512, 648, 648];
    work_user_forced: u32, "runtime.work.userForced" = [280, 280, 344, 344, 336, 336, 400, 536, 536];

    // heap: runtime/mheap.go, types mheap and heapArena.
    mheap_sweepgen: u32, "runtime.mheap.sweepgen" = [65848, 65816, 65856, 65856, 65856, 65856, 65856, 65856, 65856];
    mheap_allspans: u32, "runtime.mheap.allspans" = [65856, 65824, 65864, 65864, 65864, 65864, 65864, 65864, 65864];
    mheap_arenas: u32, "runtime.mheap.arenas" = [65936, 65904, 65944, 66008, 66008, 66008, 66008, 66008, 66008];
    mheap_central: u32, "runtime.mheap.central" = [66112, 66072, 66120, 66184, 66184, 66184, 66208, 66208, 66208];
    heap_arena_bitmap: Option<u32>, "runtime.heapArena.bitmap" = [Some(0), Some(0), Some(0), None, None, None, None, None, None];
    heap_arena_scalar_bitmap: Option<u32>, "runtime.heapArena.heapArenaPtrScalar.bitmap" = [None, None, None, None, None, None, None, None, None];
    heap_arena_spans: u32, "runtime.heapArena.spans" = [2097152, 1064960, 1064960, 0, 0, 0, 0, 0, 0];

    // spans: runtime/mheap.go, type mspan.
    mspan_start_addr: u32, "runtime.mspan.startAddr" = [24, 24, 24, 24, 24, 24, 24, 24, 24];
    mspan_npages: u32, "runtime.mspan.npages" = [32, 32, 32, 32, 32, 32, 32, 32, 32];
    mspan_freeindex: u32, "runtime.mspan.freeindex" = [48, 48, 48, 48, 48, 48, 48, 48, 48];
    mspan_nelems: u32, "runtime.mspan.nelems" = [56, 56, 56, 50, 50, 50, 50, 50, 50];
    mspan_alloc_cache: u32, "runtime.mspan.allocCache" = [64, 64, 64, 56, 56, 56, 56, 56, 56];
    mspan_alloc_bits: u32, "runtime.mspan.allocBits" = [72, 72, 72, 64, 64, 64, 64, 64, 64];
    mspan_gcmark_bits: u32, "runtime.mspan.gcmarkBits" = [80, 80, 80, 72, 72, 72, 72, 72, 72];
    mspan_sweepgen: u32, "runtime.mspan.sweepgen" = [88, 88, 96, 88, 88, 88, 88, 88, 88];
    mspan_alloc_count: u32, "runtime.mspan.allocCount" = [96, 96, 104, 96, 96, 96, 96, 96, 96];
    mspan_spanclass: u32, "runtime.mspan.spanclass" = [98, 98, 106, 98, 98, 98, 98, 98, 98];
    mspan_state: u32, "runtime.mspan.state" = [99, 99, 107, 99, 99, 99, 99, 99, 99];
    mspan_elemsize: u32, "runtime.mspan.elemsize" = [104, 104, 112, 104, 104, 104, 104, 104, 104];
    mspan_limit: u32, "runtime.mspan.limit" = [112, 112, 120, 112, 112, 112, 112, 112, 112];
    mspan_specials: u32, "runtime.mspan.specials" = [128, 128, 136, 128, 128, 128, 128, 128, 128];
    mspan_large_type: Option<u32>, "runtime.mspan.largeType" = [None, None, None, Some(152), Some(152), Some(152), Some(152), Some(152), Some(152)];

    // the module's description of itself: runtime/symtab.go, type moduledata. In 1.27 a length stands before etypes.
    module_types: u32, "runtime.moduledata.types" = [280, 296, 296, 296, 296, 296, 296, 296, 296];
    module_etypes: u32, "runtime.moduledata.etypes" = [288, 304, 304, 304, 304, 304, 304, 304, 312];
    module_gofunc: u32, "runtime.moduledata.gofunc" = [304, 320, 320, 320, 320, 320, 320, 320, 344];
    module_next: u32, "runtime.moduledata.next" = [544, 560, 584, 584, 576, 576, 576, 584, 560];
    module_size: u32, "runtime.moduledata.sizeof" = [552, 568, 592, 592, 584, 584, 584, 592, 568];

    // memory profiler: runtime/mprof.go, types bucket, memRecord and memRecordCycle (a struct bucket is followed by
    // its stack and its memRecord); runtime/mheap.go, types special and specialprofile.
    bucket_allnext: u32, "runtime.bucket.allnext" = [8, 8, 8, 8, 8, 8, 8, 8, 8];
    bucket_typ: u32, "runtime.bucket.typ" = [16, 16, 16, 16, 16, 16, 16, 16, 16];
    bucket_size: u32, "runtime.bucket.size" = [32, 32, 32, 32, 32, 32, 32, 32, 32];
    bucket_nstk: u32, "runtime.bucket.nstk" = [40, 40, 40, 40, 40, 40, 40, 40, 40];
    bucket_header: u32, "runtime.bucket.sizeof" = [48, 48, 48, 48, 48, 48, 48, 48, 48];
    mem_record_future: u32, "runtime.memRecord.future" = [32, 32, 32, 32, 32, 32, 32, 32, 16];
    mem_record_size: u32, "runtime.memRecord.sizeof" = [128, 128, 128, 128, 128, 128, 128, 128, 64];
    mem_cycle_allocs: u32, "runtime.memRecordCycle.allocs" = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    mem_cycle_frees: u32, "runtime.memRecordCycle.frees" = [8, 8, 8, 8, 8, 8, 8, 8, 8];
    mem_cycle_size: u32, "runtime.memRecordCycle.sizeof" = [32, 32, 32, 32, 32, 32, 32, 32, 16];
    special_next: u32, "runtime.special.next" = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    special_offset: u32, "runtime.special.offset" = [8, 8, 8, 8, 8, 8, 8, 8, 8];
    special_kind: u32, "runtime.special.kind" = [10, 10, 10, 10, 10, 16, 16, 16, 16];
    specialprofile_b: u32, "runtime.specialprofile.b" = [16, 16, 16, 16, 16, 24, 24, 24, 24];

    // tables.
    wait_reasons: u32, "runtime.waitReasonStrings.len" = [27, 32, 32, 37, 38, 44, 47, 47, 47];
}

/// Object size per size class, `class_to_size` of runtime/sizeclasses.go (1.19 to 1.24) and `SizeClassToSize`
/// of internal/runtime/gc/sizeclasses.go (1.25 on): the same 68 numbers in all nine. Class 0 is for large objects.
#[rustfmt::skip]
pub const CLASS_TO_SIZE: [u16; 68] = [
    0, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416,
    448, 480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048, 2304, 2688, 3072, 3200,
    3456, 4096, 4864, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728, 10240, 10880, 12288, 13568, 14336, 16384,
    18432, 19072, 20480, 21760, 24576, 27264, 28672, 32768,
];
