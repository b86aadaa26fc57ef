//! Bytes of one structure of the target and the little-endian numbers in them.
//!
//! Apart because every decoder here works on blocks that were read before, so that it can be tested by bytes.
//! An offset beyond the block is `None`, never a panic and never 0.

/// A structure's bytes, as read.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a>(pub &'a [u8]);

impl Block<'_> {
    pub fn u8(&self, offset: u32) -> Option<u8> {
        self.array::<1>(offset).map(|[b]| b)
    }

    pub fn u16(&self, offset: u32) -> Option<u16> {
        self.array(offset).map(u16::from_le_bytes)
    }

    pub fn u32(&self, offset: u32) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    pub fn u64(&self, offset: u32) -> Option<u64> {
        self.array(offset).map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = offset as usize;
        self.0.get(start..start.checked_add(N)?)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_past_the_end_are_absent() {
        let block = Block(&[1, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!((block.u8(8), block.u32(4), block.u64(0)), (Some(3), Some(2), Some(0x2_0000_0001)));
        assert_eq!((block.u8(9), block.u32(6), block.u64(2), block.u64(u32::MAX)), (None, None, None, None));
    }
}
