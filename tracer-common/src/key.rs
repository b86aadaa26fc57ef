//! Keys and values of the kernel's counting tables.

/// Class code of an object larger than any size class.
pub const CLASS_LARGE: u32 = 0;
/// Set beside the class number where the requested size was below the tiny allocator's block.
pub const CLASS_BELOW_TINY: u32 = 0x100;

/// Allocations are counted by stack, type and size class.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AllocKey {
    /// 0: unknown stack.
    pub stack: u64,
    /// 0: the allocator was given no type.
    pub type_addr: u64,
    /// Class number, [`CLASS_LARGE`], or a class with [`CLASS_BELOW_TINY`].
    pub class: u32,
    pub slot: u32,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AllocValue {
    pub objects: u64,
    pub requested: u64,
    /// For large objects, bytes of whole pages; 0 for small ones, whose class tells.
    pub pages_bytes: u64,
}

/// What was done to a map.
pub const MAP_WRITE: u32 = 0;
pub const MAP_DELETE: u32 = 1;
pub const MAP_GROW: u32 = 2;

/// Calls that write to, delete from or grow a map are counted by stack and map.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MapKey {
    pub stack: u64,
    pub type_addr: u64,
    pub map: u64,
    pub slot: u32,
    /// [`MAP_WRITE`], [`MAP_DELETE`] or [`MAP_GROW`].
    pub event: u32,
}

/// Goroutines are counted by creation site.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GoKey {
    pub created_at: u64,
    pub slot: u64,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GoValue {
    pub created: u64,
    pub ended: u64,
}

/// A sampled allocation that has no address yet: for each goroutine one, and one inside it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PendingKey {
    pub g: u64,
    pub slot: u32,
    /// 1 for an allocation inside the allocator, such as it makes to start a collection; else 0.
    pub inner: u32,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pending {
    pub stack: u64,
    pub type_addr: u64,
    pub size: u64,
    /// Bytes from the allocator's return address up to the end of the goroutine's stack: the same after a move.
    pub depth: u64,
    pub ktime_ns: u64,
    pub class: u32,
    /// As in [`crate::event::Sample`].
    pub pin: u32,
}
