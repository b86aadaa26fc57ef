//! The one door to bytes that are not ours: a target's memory, an executable file, later a capture.
//!
//! A read either fills the whole buffer or fails with the address and the reason; no failure ever turns into
//! zeros. This file knows no process, no file and no Go; `host` and `binary` implement the trait, and
//! [`Flat`] is the in-memory twin for tests.

pub mod gather;

use std::sync::Arc;

use crate::units::{Bytes, FileOffset, ImageAddr, ProcAddr};

/// Why bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FaultKind {
    /// Nothing is mapped there (or the file ends before).
    #[error("not mapped")]
    Unmapped,
    /// The kernel refuses to let us read this process.
    #[error("permission denied")]
    Denied,
    /// The page is swapped out, and reading would bring it back into a target that may have no room for it.
    #[error("swapped out; not read so as not to bring it back")]
    Swapped,
    /// The process is gone.
    #[error("the process is gone")]
    Gone,
}

/// A failed read: where, how much, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cannot read {len} bytes at {addr:#x}: {kind}")]
pub struct ReadFault {
    pub addr: u64,
    pub len: usize,
    pub kind: FaultKind,
}

/// An address space that [`ReadAt`] can be asked about.
pub trait Address: Copy {
    /// The bare number, for arithmetic inside implementations of [`ReadAt`].
    fn raw(self) -> u64;
    /// The address `bytes` further on, saturating.
    #[must_use]
    fn plus(self, bytes: u64) -> Self;
}

macro_rules! addresses {
    ($($t:ty),*) => {$(
        impl Address for $t {
            fn raw(self) -> u64 { self.0 }
            fn plus(self, bytes: u64) -> Self { Self(self.0.saturating_add(bytes)) }
        }
    )*};
}
addresses!(ProcAddr, ImageAddr, FileOffset);

impl<A: Address, R: ReadAt<A> + ?Sized> ReadAt<A> for Arc<R> {
    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), ReadFault> {
        (**self).read(addr, buf)
    }

    fn read_many(&self, requests: &mut [(A, &mut [u8])]) -> Vec<Result<(), ReadFault>> {
        (**self).read_many(requests)
    }
}

/// Read access to foreign bytes at addresses of kind `A`.
pub trait ReadAt<A: Address> {
    /// Fills `buf` from `addr`, or says why not. A partial read is a fault.
    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), ReadFault>;

    /// Several reads one after the other; one answer per request, in order. One bad address does not lose its siblings.
    fn read_many(&self, requests: &mut [(A, &mut [u8])]) -> Vec<Result<(), ReadFault>> {
        requests.iter_mut().map(|(addr, buf)| self.read(*addr, buf)).collect()
    }

    fn read_u8(&self, addr: A) -> Result<u8, ReadFault> {
        let mut b = [0; 1];
        self.read(addr, &mut b)?;
        Ok(b[0])
    }
    fn read_u16(&self, addr: A) -> Result<u16, ReadFault> {
        let mut b = [0; 2];
        self.read(addr, &mut b)?;
        Ok(u16::from_le_bytes(b))
    }
    fn read_u32(&self, addr: A) -> Result<u32, ReadFault> {
        let mut b = [0; 4];
        self.read(addr, &mut b)?;
        Ok(u32::from_le_bytes(b))
    }
    fn read_u64(&self, addr: A) -> Result<u64, ReadFault> {
        let mut b = [0; 8];
        self.read(addr, &mut b)?;
        Ok(u64::from_le_bytes(b))
    }

    /// `len` bytes as a vector. `cap` bounds what a foreign length may make us allocate.
    fn read_vec(&self, addr: A, len: usize, cap: Bytes) -> Result<Vec<u8>, ReadFault> {
        if len as u64 > cap.0 {
            return Err(ReadFault { addr: addr.raw(), len, kind: FaultKind::Unmapped });
        }
        let mut b = vec![0; len];
        self.read(addr, &mut b)?;
        Ok(b)
    }
}

/// Memory that is one flat run of bytes at a base address: the in-memory twin for tests.
pub struct Flat<'a> {
    pub base: u64,
    pub bytes: &'a [u8],
}

impl<A: Address> ReadAt<A> for Flat<'_> {
    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), ReadFault> {
        let fault = ReadFault { addr: addr.raw(), len: buf.len(), kind: FaultKind::Unmapped };
        let start = addr.raw().checked_sub(self.base).ok_or(fault)?;
        let start = usize::try_from(start).ok().ok_or(fault)?;
        let end = start.checked_add(buf.len()).ok_or(fault)?;
        buf.copy_from_slice(self.bytes.get(start..end).ok_or(fault)?);
        Ok(())
    }
}

/// A [`Flat`] that counts how often it is read, for each read of a process is a turn at its lock.
#[cfg(test)]
pub(crate) struct Counted<'a> {
    flat: Flat<'a>,
    reads: std::cell::Cell<usize>,
}

#[cfg(test)]
impl<'a> Counted<'a> {
    pub(crate) fn new(base: u64, bytes: &'a [u8]) -> Self {
        Self { flat: Flat { base, bytes }, reads: std::cell::Cell::new(0) }
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.get()
    }
}

#[cfg(test)]
impl<A: Address> ReadAt<A> for Counted<'_> {
    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.reads.set(self.reads.get() + 1);
        self.flat.read(addr, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_past_the_end_is_a_fault_and_not_zeros() {
        let m = Flat { base: 0x1000, bytes: &[1, 2, 3, 4] };
        let mut buf = [9; 4];
        assert!(m.read(ProcAddr(0x1001), &mut buf).is_err());
        assert_eq!(buf, [9; 4]);
        assert_eq!(m.read_u32(ProcAddr(0x1000)), Ok(0x0403_0201));
        assert!(m.read_u8(ProcAddr(0xfff)).is_err());
        assert!(m.read_u8(ProcAddr(u64::MAX)).is_err());
    }
}
