//! Names already looked up. A memo changes no answer: it is emptied when full.

use std::collections::HashMap;

use super::evidence::{Cause, Frame, Line};
use super::stack::{UserStack, allocation_part, user_part};
use super::{Names, PcKind, TypeInfo};
use crate::aggregate::stacks::Stack;
use crate::goruntime::names::cause;
use crate::units::ProcAddr;

/// Code addresses remembered; about 300 bytes each.
const MAX_PCS: usize = 32_768;
/// Types remembered.
const MAX_TYPES: usize = 16_384;

#[derive(Default)]
pub(super) struct Memo {
    frames: HashMap<(ProcAddr, PcKind), Vec<Frame>>,
    types: HashMap<ProcAddr, Option<TypeInfo>>,
    generation: usize,
}

impl Memo {
    /// Forgets what was looked up among fewer names.
    pub(super) fn renew(&mut self, generation: usize) {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
    }
}

/// The names of the target at hand, through the memo.
pub(super) struct Named<'a> {
    pub memo: &'a mut Memo,
    pub names: &'a dyn Names,
}

impl Named<'_> {
    pub(super) fn frames(&mut self, pc: ProcAddr, kind: PcKind) -> Vec<Frame> {
        if let Some(known) = self.memo.frames.get(&(pc, kind)) {
            return known.clone();
        }
        if self.memo.frames.len() >= MAX_PCS {
            self.memo.frames.clear();
        }
        let mut found = self.names.frames(pc, kind);
        if found.is_empty() {
            found.push(Line { function: pc.to_string(), ..Line::default() }.into());
        }
        self.memo.frames.insert((pc, kind), found.clone());
        found
    }

    pub(super) fn type_info(&mut self, addr: ProcAddr) -> Option<TypeInfo> {
        if let Some(known) = self.memo.types.get(&addr) {
            return known.clone();
        }
        if self.memo.types.len() >= MAX_TYPES {
            self.memo.types.clear();
        }
        let found = self.names.type_info(addr);
        self.memo.types.insert(addr, found.clone());
        found
    }

    pub(super) fn user_stack(&mut self, stack: &[ProcAddr]) -> UserStack {
        user_part(stack.iter().flat_map(|pc| self.frames(*pc, PcKind::Return)).collect())
    }

    /// A stack that was cut ends where its addresses name nothing. Up to go1.25 a collection may move a goroutine's
    /// stack while its thread runs on the system stack, whose frame pointers still lead to the old place
    /// (runtime/stack.go, isShrinkStackSafe): what is read there is whatever came after.
    pub(super) fn allocation_stack(&mut self, stack: &[ProcAddr], cut: bool) -> UserStack {
        let mut all = Vec::new();
        for pc in stack {
            let frames = self.frames(*pc, PcKind::Return);
            if cut && frames.iter().any(|f| f.function == pc.to_string()) {
                break;
            }
            all.extend(frames);
        }
        allocation_part(all)
    }

    /// Who allocates by a stack, in the program's own frames, and why.
    pub(super) fn allocation(&mut self, stack: &Stack, type_name: Option<&str>) -> (Vec<Frame>, Cause) {
        let UserStack { frames, runtime } = self.allocation_stack(&stack.frames, stack.truncated);
        let runtime: Vec<&str> = runtime.iter().map(String::as_str).collect();
        (frames, cause::of(&runtime, type_name))
    }

    /// The function that starts at `entry`, without what was inlined into it.
    pub(super) fn function(&mut self, entry: ProcAddr) -> String {
        self.frames(entry, PcKind::Entry).pop().map(|f| f.function.clone()).unwrap_or_default()
    }
}
