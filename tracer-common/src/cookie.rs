//! The 64-bit attach cookie: which program shape a probe has, what its site looks like, whose it is.

/// What the probed function's argument registers mean.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// An allocation: size in the first argument register, type descriptor in the second.
    Alloc = 1,
    /// A map write: map type in the first, map in the second.
    MapWrite = 2,
    /// A goroutine is created: creation site in the third.
    GoBorn = 3,
    /// A goroutine ended: its g in the first.
    GoEnd = 4,
    /// A deletion from a map: map type in the first, map in the second, or where [`MAP_FIRST`] says.
    MapDelete = 5,
    /// A map grows: the same, or where [`MAP_THIRD`] says.
    MapGrow = 6,
    /// An allocation of which some are followed: as [`Shape::Alloc`].
    SampleBegin = 7,
    /// The allocator has the object: its address is where the cookie's place says.
    SampleEnd = 8,
    /// Behind a call that allocated, in the program's own code, where nothing else leads to: an allocation of which some are followed,
    /// and its object, at once. The address is where the cookie's place says.
    SampleAt = 9,
}

/// The caller's return address is at the stack pointer: the function's frame is not set up yet.
pub const CALLER_AT_SP: u8 = 1;
/// Count hits only; take no stack and fill no table.
pub const HITS_ONLY: u8 = 2;
/// The map is in the first argument register and its type in the second: a method of the map.
pub const MAP_FIRST: u8 = 4;
/// The map's type is in the second and the map in the third: a method of one of its tables.
pub const MAP_THIRD: u8 = 8;

/// The probed function was called by the allocator: the allocator's frame is the caller's.
pub const IN_CALLEE: u8 = 16;

/// The probe is on a call in the program's own code, or behind it: what it allocates is in the table of pins, and so is its return
/// address, which is the stack's innermost.
pub const AT_CALL: u8 = 32;

/// Of a sampled allocation: each object counts as one, whatever its size.
pub const BY_OBJECT: u8 = 64;

/// The object's address is in the first result register.
pub const PLACE_RESULT: u16 = 0;
/// Set where it is on the stack instead: the other bits are its offset from the stack pointer in words.
pub const PLACE_STACK: u16 = 0x8000;
/// Bytes above the stack pointer that a place can name.
pub const EXIT_STACK: u32 = 0x8000 * 8;

/// A cookie taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cookie {
    pub shape: Shape,
    pub flags: u8,
    /// The target's slot.
    pub slot: u16,
    /// Index of the probe in the session's list, and of its hit counter.
    pub probe: u16,
    /// For [`Shape::SampleEnd`] and [`Shape::SampleAt`], [`PLACE_RESULT`] or [`PLACE_STACK`] with an offset; else 0.
    pub place: u16,
}

impl Cookie {
    pub const fn to_bits(self) -> u64 {
        self.shape as u64
            | (self.flags as u64) << 8
            | (self.slot as u64) << 16
            | (self.probe as u64) << 32
            | (self.place as u64) << 48
    }

    /// `None` where the bits name no shape.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        let shape = match bits as u8 {
            1 => Shape::Alloc,
            2 => Shape::MapWrite,
            3 => Shape::GoBorn,
            4 => Shape::GoEnd,
            5 => Shape::MapDelete,
            6 => Shape::MapGrow,
            7 => Shape::SampleBegin,
            8 => Shape::SampleEnd,
            9 => Shape::SampleAt,
            _ => return None,
        };
        Some(Self {
            shape,
            flags: (bits >> 8) as u8,
            slot: (bits >> 16) as u16,
            probe: (bits >> 32) as u16,
            place: (bits >> 48) as u16,
        })
    }
}
