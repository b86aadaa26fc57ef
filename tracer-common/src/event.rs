//! Ring-buffer records. Every record starts with [`Header`].

/// Kinds of records; numbers are never reused.
pub const KIND_STACK: u16 = 1;

/// Frames a stack record can carry, `perf_event_max_stack`'s default.
pub const MAX_FRAMES: usize = 127;

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    pub kind: u16,
    pub slot: u16,
    pub epoch: u32,
    /// `bpf_ktime_get_ns`.
    pub ktime_ns: u64,
}

/// A stack record's fixed part; `end` words follow, of which `first..end` are the frames.
///
/// The words before `first` are the kernel's own view of the probed function and not part of the stack.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StackHeader {
    pub header: Header,
    pub id: u64,
    pub first: u32,
    pub end: u32,
}

pub const STACK_HEADER_BYTES: usize = size_of::<StackHeader>();
const _: () = assert!(STACK_HEADER_BYTES == 32);
