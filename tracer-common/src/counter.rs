//! ONE enum of losses, both sides. Every early return that loses something increments one of these, and every
//! report prints those that are not 0.

/// A named way to lose something.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Counter {
    /// The ring buffer was full: a new stack was not sent (its counts are kept, its frames are unknown).
    RingFull = 0,
    /// The table of allocation sites was full: the allocation is in the probe's hits only.
    AllocTableFull = 1,
    /// The table of map writes was full.
    MapTableFull = 2,
    /// The table of goroutine creation sites was full.
    GoroutineTableFull = 3,
    /// The stack walk met a frame it could not read: the outer frames are missing.
    StackCut = 4,
    /// The stack was deeper than the record holds: its outermost frames are missing.
    StackTruncated = 5,
    /// All scratch buffers of this CPU were in use by preempted probes: counted under an unknown stack.
    ScratchBusy = 6,
    /// The caller's return address could not be read: the stack lacks its innermost frame.
    CallerUnreadable = 7,
    /// The type descriptor could not be read: the size class may lack the malloc header.
    TypeUnreadable = 8,
    /// The goroutine's creation site could not be read when it ended.
    GoroutineUnreadable = 9,
    /// A probe fired with a cookie no program knows, or of a slot that no target has.
    BadCookie = 10,
    /// A probe fired in a process that is not the target.
    ForeignProcess = 11,
    /// User side: a ring record that could not be decoded.
    Undecodable = 12,
    /// User side: a stack id was counted but its frames never arrived.
    StackUnknown = 13,
    /// User side: a reading failed.
    ReadingFailed = 14,
    /// User side: a function has no usable probe site.
    SiteRefused = 15,
    /// User side: a site's byte did not show the probe after attaching.
    SiteNotTaken = 16,
    /// User side: the table of stacks was full.
    StackTableFull = 17,
    /// User side: goroutines that changed while they were read.
    GoroutineTorn = 18,
    /// User side: goroutines left unread, whole or in part, because reading would have brought swapped-out pages back.
    PageSwapped = 19,
    /// User side: the target executed a program again; what it did since the last reading is in no figure.
    TargetReplaced = 20,
    /// A sampled allocation was lost: the ring buffer was full.
    SampleRingFull = 21,
    /// A sampled allocation was lost: the table of those that have no address yet was full.
    SampleTableFull = 22,
    /// A sampled allocation was lost: where its address is handed out was never passed, or another came first.
    SampleUnanswered = 23,
    /// A sampled allocation whose address, or the collector's state with it, could not be read.
    SampleUnreadable = 24,
    /// User side: sampled objects that are not followed, because as many as can be are.
    SampleUnfollowed = 25,
    /// User side: probes were taken away for a while to stay within the budget, so many times.
    Throttled = 26,
    /// User side: a sampled object of a pinned call whose size could not be read.
    SampleUnplaced = 27,
    /// User side: allocations chosen in a window that had no object when they were forgotten behind it.
    WindowForgotten = 28,
    /// User side: objects that windows showed and whose stack never arrived.
    WindowStackUnknown = 29,
}

impl Counter {
    /// Every counter, in wire order.
    pub const ALL: [Counter; 30] = [
        Counter::RingFull,
        Counter::AllocTableFull,
        Counter::MapTableFull,
        Counter::GoroutineTableFull,
        Counter::StackCut,
        Counter::StackTruncated,
        Counter::ScratchBusy,
        Counter::CallerUnreadable,
        Counter::TypeUnreadable,
        Counter::GoroutineUnreadable,
        Counter::BadCookie,
        Counter::ForeignProcess,
        Counter::Undecodable,
        Counter::StackUnknown,
        Counter::ReadingFailed,
        Counter::SiteRefused,
        Counter::SiteNotTaken,
        Counter::StackTableFull,
        Counter::GoroutineTorn,
        Counter::PageSwapped,
        Counter::TargetReplaced,
        Counter::SampleRingFull,
        Counter::SampleTableFull,
        Counter::SampleUnanswered,
        Counter::SampleUnreadable,
        Counter::SampleUnfollowed,
        Counter::Throttled,
        Counter::SampleUnplaced,
        Counter::WindowForgotten,
        Counter::WindowStackUnknown,
    ];

    /// The name in reports; never reused for another meaning.
    pub const fn name(self) -> &'static str {
        match self {
            Counter::RingFull => "ring_full",
            Counter::AllocTableFull => "alloc_table_full",
            Counter::MapTableFull => "map_table_full",
            Counter::GoroutineTableFull => "goroutine_table_full",
            Counter::StackCut => "stack_cut",
            Counter::StackTruncated => "stack_truncated",
            Counter::ScratchBusy => "scratch_busy",
            Counter::CallerUnreadable => "caller_unreadable",
            Counter::TypeUnreadable => "type_unreadable",
            Counter::GoroutineUnreadable => "goroutine_unreadable",
            Counter::BadCookie => "bad_cookie",
            Counter::ForeignProcess => "foreign_process",
            Counter::Undecodable => "undecodable",
            Counter::StackUnknown => "stack_unknown",
            Counter::ReadingFailed => "reading_failed",
            Counter::SiteRefused => "site_refused",
            Counter::SiteNotTaken => "site_not_taken",
            Counter::StackTableFull => "stack_table_full",
            Counter::GoroutineTorn => "goroutine_torn",
            Counter::PageSwapped => "page_swapped",
            Counter::TargetReplaced => "target_replaced",
            Counter::SampleRingFull => "sample_ring_full",
            Counter::SampleTableFull => "sample_table_full",
            Counter::SampleUnanswered => "sample_unanswered",
            Counter::SampleUnreadable => "sample_unreadable",
            Counter::SampleUnfollowed => "sample_unfollowed",
            Counter::Throttled => "throttled",
            Counter::SampleUnplaced => "sample_unplaced",
            Counter::WindowForgotten => "window_forgotten",
            Counter::WindowStackUnknown => "window_stack_unknown",
        }
    }
}
