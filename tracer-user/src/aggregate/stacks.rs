//! Stacks by the id the kernel side gave them. Capped; never named here, and never walked in the table's order.

use std::collections::HashMap;

use crate::units::{ProcAddr, StackId};

/// Stacks kept. The kernel's table of allocation sites holds fewer.
pub const MAX_STACKS: usize = 32_768;
/// Frames kept over all stacks: 8 bytes each, 16 MiB at worst.
pub const MAX_FRAMES_TOTAL: usize = 2 << 20;

/// One user stack: return addresses, innermost first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stack {
    pub frames: Box<[ProcAddr]>,
    pub truncated: bool,
}

/// All stacks of one target.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stacks {
    by_id: HashMap<StackId, Stack, foldhash::quality::RandomState>,
    frames: usize,
}

impl Stacks {
    /// Keeps a stack; false where the table is full. An id seen before keeps its first frames: the id is their
    /// hash.
    pub(super) fn add(&mut self, id: StackId, frames: Vec<ProcAddr>, truncated: bool) -> bool {
        if self.by_id.contains_key(&id) {
            return true;
        }
        if self.by_id.len() >= MAX_STACKS || self.frames + frames.len() > MAX_FRAMES_TOTAL {
            return false;
        }
        self.frames += frames.len();
        self.by_id.insert(id, Stack { frames: frames.into(), truncated });
        true
    }

    /// The stack of that id, if its frames ever arrived.
    pub fn get(&self, id: StackId) -> Option<&Stack> {
        self.by_id.get(&id)
    }
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
