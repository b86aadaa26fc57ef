//! Ring-buffer records. Every record starts with [`Header`].

/// Kinds of records; numbers are never reused.
pub const KIND_STACK: u16 = 1;
pub const KIND_SAMPLE: u16 = 2;

/// Frames a stack record can carry, as many as `perf_event_max_stack` allows by default.
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

/// A stack record's fixed part; `frames` return addresses follow, innermost first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StackHeader {
    pub header: Header,
    pub id: u64,
    pub frames: u32,
    /// [`STACK_TRUNCATED`], [`STACK_CUT`].
    pub flags: u32,
}

/// The stack was deeper than [`MAX_FRAMES`].
pub const STACK_TRUNCATED: u32 = 1;
/// The walk met a frame it could not read.
pub const STACK_CUT: u32 = 2;

pub const STACK_HEADER_BYTES: usize = size_of::<StackHeader>();
const _: () = assert!(STACK_HEADER_BYTES == 32);

/// A sampled allocation, as its object got its address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// Its time is the record's.
    pub header: Header,
    pub address: u64,
    /// 0: unknown stack.
    pub stack: u64,
    /// 0: the allocator was given no type.
    pub type_addr: u64,
    /// What the program asked for; 0: a pinned call of which that is not known.
    pub size: u64,
    /// Address of the target's structure of the goroutine.
    pub g: u64,
    /// As in [`crate::key::AllocKey`].
    pub class: u32,
    /// The heap's sweep generation, and [`SAMPLE_MARKING`], read when the object had its address.
    pub generation: u32,
    pub flags: u32,
    /// The [`chooser`] of the pinned call that chose it, plus one; 0: the allocator's own functions did.
    pub pin: u32,
}

/// A pinned call and which of its means samples were taken with: the number of its probe, and how often its mean was changed.
pub const fn chooser(probe: u16, era: u16) -> u32 {
    probe as u32 | (era as u32) << 16
}

/// The other way: the probe, and how often its mean was changed.
pub const fn chosen_by(chooser: u32) -> (u16, u16) {
    (chooser as u16, (chooser >> 16) as u16)
}

/// The collector was marking.
pub const SAMPLE_MARKING: u32 = 1;
/// The collector's state could not be read: `generation` and [`SAMPLE_MARKING`] say nothing.
pub const SAMPLE_STATELESS: u32 = 2;

pub const SAMPLE_BYTES: usize = size_of::<Sample>();
const _: () = assert!(SAMPLE_BYTES == 72);
