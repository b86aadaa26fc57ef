//! Pieces of an image from a recording, as memory: what was kept can be read, anything else is not mapped.

use crate::{
    memory::{FaultKind, ReadAt, ReadFault},
    units::ImageAddr,
};

/// What is kept of one image: the largest function table that is read, and as much again for the rest.
pub const MAX_TOTAL: usize = 512 << 20;

/// Pieces as they come, in any order.
#[derive(Default, Debug)]
pub struct Pieces {
    kept: Vec<(u64, Vec<u8>)>,
    total: usize,
    cut: bool,
}

impl Pieces {
    pub fn add(&mut self, at: ImageAddr, bytes: &[u8]) {
        // Pieces of nothing are still pieces.
        let takes = bytes.len() + size_of::<(u64, Vec<u8>)>();
        if self.total + takes > MAX_TOTAL {
            self.cut = true;
            return;
        }
        self.total += takes;
        // A table comes in pieces that follow each other.
        if let Some((start, last)) = self.kept.last_mut()
            && start.checked_add(last.len() as u64) == Some(at.0)
        {
            last.extend_from_slice(bytes);
            return;
        }
        self.kept.push((at.0, bytes.to_vec()));
    }

    /// Some did not fit.
    pub fn cut(&self) -> bool {
        self.cut
    }

    pub fn sections(self) -> Sections {
        let Self { kept: mut pieces, .. } = self;
        // A stable sort: of two pieces for one address the first counts.
        pieces.sort_by_key(|(start, _)| *start);
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for (start, bytes) in pieces {
            if let Some((first, run)) = runs.last_mut() {
                let end = first.saturating_add(run.len() as u64);
                if start <= end {
                    let known = usize::try_from(end - start).unwrap_or(usize::MAX);
                    run.extend_from_slice(bytes.get(known..).unwrap_or_default());
                    continue;
                }
            }
            runs.push((start, bytes));
        }
        Sections { runs }
    }
}

/// An image's bytes as far as they were kept.
#[derive(Debug)]
pub struct Sections {
    /// In order, apart from each other.
    runs: Vec<(u64, Vec<u8>)>,
}

impl ReadAt<ImageAddr> for Sections {
    fn read(&self, addr: ImageAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let fault = ReadFault { addr: addr.0, len: buf.len(), kind: FaultKind::Unmapped };
        let index = self.runs.partition_point(|(start, _)| *start <= addr.0);
        let (start, run) = index.checked_sub(1).and_then(|i| self.runs.get(i)).ok_or(fault)?;
        let from = usize::try_from(addr.0 - start).map_err(|_too_far| fault)?;
        let to = from.checked_add(buf.len()).ok_or(fault)?;
        buf.copy_from_slice(run.get(from..to).ok_or(fault)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_kept_is_read_and_nothing_else() {
        let mut pieces = Pieces::default();
        pieces.add(ImageAddr(100), b"cdef");
        pieces.add(ImageAddr(98), b"abcd");
        pieces.add(ImageAddr(104), b"g");
        pieces.add(ImageAddr(u64::MAX - 1), b"xyz");
        pieces.add(ImageAddr(200), b"z");
        let sections = pieces.sections();
        let read = |at, len| sections.read_vec(ImageAddr(at), len, crate::units::Bytes(64)).ok();
        assert_eq!(read(98, 7).as_deref(), Some(&b"abcdefg"[..]));
        assert_eq!(read(101, 2).as_deref(), Some(&b"de"[..]));
        assert_eq!(read(98, 8), None);
        assert_eq!(read(97, 1), None);
        assert_eq!(read(200, 1).as_deref(), Some(&b"z"[..]));
        assert_eq!(read(201, 1), None);
    }

    proptest! {
        #[test]
        fn pieces_of_one_image_give_the_image(
            cuts in proptest::collection::vec((0_usize..300, 0_usize..60), 0..40),
        ) {
            let image: Vec<u8> = (0..360_u32).map(|n| (n % 251) as u8).collect();
            let mut pieces = Pieces::default();
            let mut kept = vec![false; image.len()];
            for (at, len) in cuts {
                pieces.add(ImageAddr(at as u64), &image[at..at + len]);
                kept[at..at + len].fill(true);
            }
            let sections = pieces.sections();
            for (at, kept) in kept.into_iter().enumerate() {
                let mut byte = [0];
                let read = sections.read(ImageAddr(at as u64), &mut byte);
                prop_assert_eq!(read.is_ok(), kept);
                prop_assert!(!kept || byte[0] == image[at]);
            }
        }
    }
}
