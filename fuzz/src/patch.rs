//! Changes to a real program's bytes: a few words become something else, often something plausible, so that readers get
//! past their first checks before they meet it.

use arbitrary::Arbitrary;
use tracer_user::memory::{FaultKind, ReadAt, ReadFault};
use tracer_user::units::{FileOffset, ProcAddr};

use crate::base::{Base, Extent};

/// What a word becomes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Value {
    Word(u64),
    Small(u8),
    Half(u32),
    Byte(u8),
    Flip(u8),
    /// The address of a byte of the program.
    Pointer(u32),
    /// What another place holds.
    Copy(u32),
    /// The end of the address space, and what lies just before it.
    Near(u8),
    Add(i8),
}

/// One change; the place counts bytes over all extents, wrapping.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Patch {
    pub at: u32,
    pub aligned: bool,
    pub to: Value,
    /// Words in a row that become it.
    pub run: u8,
}

/// Bytes in extents, some of them changed.
pub struct Changed {
    extents: Vec<Extent>,
    /// What is in no extent reads as zeros up to here.
    len: u64,
}

impl Changed {
    pub fn memory(base: &Base) -> Self {
        Self { extents: base.memory.clone(), len: 0 }
    }

    pub fn file(base: &Base) -> Self {
        Self { extents: base.file.clone(), len: base.file_len }
    }

    pub fn apply(&mut self, patches: &[Patch]) {
        for patch in patches.iter().take(64) {
            for n in 0..=u32::from(patch.run % 16) {
                self.change(patch, n);
            }
        }
    }

    /// Puts bytes where there are some.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        for (start, old) in &mut self.extents {
            let from = at.checked_sub(*start).and_then(|from| usize::try_from(from).ok());
            if let Some(place) = from.and_then(|from| old.get_mut(from..from.checked_add(bytes.len())?)) {
                place.copy_from_slice(bytes);
            }
        }
    }

    fn place(&self, at: u32) -> Option<(usize, usize)> {
        let total: usize = self.extents.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut at = at as usize % total.max(1);
        for (n, (_, bytes)) in self.extents.iter().enumerate() {
            if at < bytes.len() {
                return Some((n, at));
            }
            at -= bytes.len();
        }
        None
    }

    fn word(&self, at: u32) -> Option<u64> {
        let (n, at) = self.place(at)?;
        self.extents[n].1.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn change(&mut self, patch: &Patch, n: u32) -> Option<()> {
        let at = if patch.aligned { patch.at & !7 } else { patch.at }.wrapping_add(8 * n);
        let old = self.word(at)?;
        let new = match patch.to {
            Value::Word(word) => word,
            Value::Small(word) => u64::from(word),
            Value::Half(half) => old & !0xffff_ffff | u64::from(half),
            Value::Byte(byte) => old & !0xff | u64::from(byte),
            Value::Flip(bit) => old ^ 1 << (bit % 64),
            Value::Pointer(to) => self.place(to).map(|(n, at)| self.extents[n].0 + at as u64)?,
            Value::Copy(from) => self.word(from)?,
            Value::Near(less) => u64::MAX - u64::from(less),
            Value::Add(more) => old.wrapping_add_signed(i64::from(more)),
        };
        let (n, at) = self.place(at)?;
        self.extents[n].1.get_mut(at..at + 8)?.copy_from_slice(&new.to_le_bytes());
        Some(())
    }

    fn fill(&self, from: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        let fault = ReadFault { addr: from, len: buf.len(), kind: FaultKind::Unmapped };
        let end = from.checked_add(buf.len() as u64).ok_or(fault)?;
        let sparse = end <= self.len;
        buf.fill(0);
        let first = self.extents.partition_point(|(start, bytes)| start + bytes.len() as u64 <= from);
        let mut covered = 0;
        for (start, bytes) in self.extents[first..].iter().take_while(|(start, _)| *start < end) {
            let (low, high) = (from.max(*start), end.min(start + bytes.len() as u64));
            let part = &bytes[(low - start) as usize..(high - start) as usize];
            buf[(low - from) as usize..(high - from) as usize].copy_from_slice(part);
            covered += high - low;
        }
        if sparse || covered == buf.len() as u64 { Ok(()) } else { Err(fault) }
    }
}

impl ReadAt<ProcAddr> for Changed {
    fn read(&self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.fill(addr.0, buf)
    }
}

impl ReadAt<FileOffset> for Changed {
    fn read(&self, addr: FileOffset, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.fill(addr.0, buf)
    }
}
