//! The runtime's own words for what a goroutine waits on, read from the target.
//!
//! Never a table of ours: the numbers change with each Go version, and in 1.26 and later even the order in the
//! source is not the order of the constants (runtime/runtime2.go, `waitReasonStrings`).

use super::StateError;
use super::block::Block;
use crate::goruntime::layout::Layout;
use crate::memory::ReadAt;
use crate::units::{Bytes, ProcAddr};

/// `waitReasonStrings` of one process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitReasons(Vec<String>);

/// The longest known reason has 33 bytes ("waiting to update GOMAXPROCS" and the like).
const MAX_LEN: u64 = 128;
/// A Go string: pointer and length.
const STRING_SIZE: usize = 16;
/// The second entry since long before 1.19: proof that this is the table.
const SECOND: &str = "GC assist marking";

impl WaitReasons {
    /// Reads the table, whose length the layout knows.
    pub fn read(memory: &dyn ReadAt<ProcAddr>, layout: &Layout, table: ProcAddr) -> Result<Self, StateError> {
        let failed = StateError::reading("waitReasonStrings");
        let count = layout.wait_reasons as usize;
        let headers = memory.read_vec(table, count * STRING_SIZE, Bytes(1 << 16)).map_err(&failed)?;
        let mut reasons = Vec::with_capacity(count);
        for header in headers.chunks_exact(STRING_SIZE) {
            let header = Block(header);
            let (start, len) = (header.u64(0).unwrap_or_default(), header.u64(8).unwrap_or_default());
            let bytes = memory.read_vec(ProcAddr(start), len as usize, Bytes(MAX_LEN)).map_err(&failed)?;
            reasons.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        if reasons.first().is_none_or(|r| !r.is_empty()) || reasons.get(1).is_none_or(|r| r != SECOND) {
            return Err(StateError::Layout {
                minor: layout.minor,
                check: "waitReasonStrings begins with \"\" and \"GC assist marking\"",
                found: format!("{:?}", reasons.iter().take(2).collect::<Vec<_>>()),
            });
        }
        Ok(Self(reasons))
    }

    /// The words for a `g.waitreason`; absent for 0 and for numbers outside the table.
    pub fn get(&self, number: u8) -> Option<&str> {
        self.0.get(usize::from(number)).map(String::as_str).filter(|r| !r.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Flat;

    fn table(second: &str) -> Vec<u8> {
        let layout = Layout::for_minor(27).unwrap();
        let base = 0x1000_u64;
        let text = base + u64::from(layout.wait_reasons) * 16;
        let mut bytes = Vec::new();
        for i in 0..layout.wait_reasons {
            let len = if i == 1 { second.len() as u64 } else { 0 };
            bytes.extend(text.to_le_bytes());
            bytes.extend(len.to_le_bytes());
        }
        bytes.extend(second.as_bytes());
        bytes
    }

    #[test]
    fn a_table_that_does_not_begin_as_the_runtimes_is_refused() {
        let layout = Layout::for_minor(27).unwrap();
        let read = |bytes: &[u8]| WaitReasons::read(&Flat { base: 0x1000, bytes }, layout, ProcAddr(0x1000));
        let good = read(&table(SECOND)).unwrap();
        assert_eq!((good.get(0), good.get(1), good.get(200)), (None, Some(SECOND), None));
        assert!(matches!(read(&table("GC assist")), Err(StateError::Layout { .. })));
        assert!(matches!(read(&table(SECOND)[..100]), Err(StateError::Read { .. })));
        let mut huge = table(SECOND);
        huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(read(&huge), Err(StateError::Read { .. })));
    }
}
