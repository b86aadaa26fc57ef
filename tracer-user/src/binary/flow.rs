//! Where control goes in one function, and where the value it will return lies on the way.
//!
//! Apart from `x86`, which judges one instruction: this walks all paths. It never guesses: what an instruction does to
//! a register or to the stack and is not understood loses the value, and a jump that may go anywhere refuses the
//! function. "Holds" means: on every path from here to a return, what lies there is what will be returned.

use std::collections::BTreeSet;

use iced_x86::{Code, FlowControl, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use super::x86::Insn;
use crate::units::ImageAddr;

/// Where a word can lie while a function runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// A general register, by its number: RAX is 0.
    Register(u8),
    /// So many bytes above the stack pointer.
    Stack(u32),
}

impl Place {
    /// RAX, where Go's functions return their first result.
    pub const RESULT: Self = Self::Register(RAX);
}

/// Where a returned word came from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// The address of something in the program.
    Constant,
    /// The first result of a direct call.
    Call(ImageAddr),
    /// Was worked out here, or is not known.
    Other,
}

/// The places that hold the value to be returned, and those that hold an address to which something is added to make it.
///
/// An added-to place alone says nothing: the sum may be any address. Where one path returns the sum and the other the
/// place itself, they are two addresses in one object, of which the place is the start (runtime/malloc.go up to go1.23
/// pads tiny objects so under the race detector).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Held {
    exact: Places,
    added_to: Places,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Places {
    /// One bit for each general register.
    registers: u16,
    /// Offsets from the stack pointer, sorted.
    stack: Vec<u32>,
}

/// A value that moves through more slots than this is lost.
const MAX_SLOTS: usize = 32;
/// Copies remembered at one place; further ones are forgotten.
const MAX_EQUAL: usize = 64;
/// Instructions of one function; longer ones are refused. The longest allocator of go1.19 to go1.27 takes 2688 bytes (go1.23
/// with the race detector).
const MAX_INSNS: usize = 4096;
/// Places looked at behind one return; where a value comes from further away is not known.
const MAX_ORIGINS: usize = 1 << 16;
/// Rounds of the search for a fixed point; functions with more nested loops are refused.
const MAX_ROUNDS: usize = 64;

const RAX: u8 = 0;
pub(super) const RSP: u8 = 4;
const RBP: u8 = 5;

impl Places {
    fn has(&self, place: Place) -> bool {
        match place {
            Place::Register(n) => self.registers >> n & 1 == 1,
            Place::Stack(at) => self.stack.binary_search(&at).is_ok(),
        }
    }

    fn add(&mut self, place: Place) {
        match place {
            Place::Register(n) => self.registers |= 1 << n,
            Place::Stack(at) => {
                if let Err(i) = self.stack.binary_search(&at)
                    && self.stack.len() < MAX_SLOTS
                {
                    self.stack.insert(i, at);
                }
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        let registers = (0..16).map(Place::Register).filter(|place| self.has(*place));
        registers.chain(self.stack.iter().copied().map(Place::Stack))
    }

    fn both(&self, other: &Self) -> Self {
        let stack = self.stack.iter().copied().filter(|at| other.stack.binary_search(at).is_ok());
        Self { registers: self.registers & other.registers, stack: stack.collect() }
    }

    fn add_all(&mut self, other: &Self) {
        other.iter().for_each(|place| self.add(place));
    }
}

impl Held {
    fn meet(&mut self, other: &Self) {
        let mut exact = self.exact.both(&other.exact);
        exact.add_all(&self.exact.both(&other.added_to));
        exact.add_all(&self.added_to.both(&other.exact));
        *self = Self { exact, added_to: self.added_to.both(&other.added_to) };
    }
}

/// What an instruction does to the places that words lie in.
pub(super) enum Effect {
    /// Copies one place to another.
    Copy { from: Place, to: Place },
    /// A call: registers are lost, and what lies in memory whose address was taken.
    Call,
    /// Changes these registers and, of the stack, this piece of memory.
    Writes { registers: u16, memory: Memory },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    None,
    /// Bytes from an offset above the stack pointer.
    Stack(u32, u32),
    /// Somewhere that a pointer names.
    Anywhere,
}

/// The paths of one function.
pub struct Flow<'a> {
    insns: &'a [Insn],
    next: Vec<[Option<usize>; 2]>,
    before: Vec<Vec<usize>>,
    effects: Vec<Effect>,
    /// The lowest offset of the stack whose address is ever taken.
    taken_from: u32,
    /// Before each instruction: registers and slots of the stack that certainly hold the same word.
    equal: Vec<BTreeSet<(u8, u32)>>,
}

impl<'a> Flow<'a> {
    /// `ends` says which called functions never return. An error says why paths cannot be known.
    pub fn of(insns: &'a [Insn], ends: impl Fn(ImageAddr) -> bool) -> Result<Self, String> {
        if !(1..=MAX_INSNS).contains(&insns.len()) {
            return Err(format!("it has {} instructions, not 1 to {MAX_INSNS}", insns.len()));
        }
        let find = |at: ImageAddr| insns.binary_search_by_key(&at, Insn::address).ok();
        let mut next = vec![[None; 2]; insns.len()];
        for (i, insn) in insns.iter().enumerate() {
            let inside = || {
                insn.target().and_then(find).ok_or_else(|| format!("a jump at {} leaves it", insn.address()))
            };
            let following = (i + 1 < insns.len()).then_some(i + 1);
            next[i] = match insn.raw.flow_control() {
                FlowControl::ConditionalBranch => [following, Some(inside()?)],
                FlowControl::UnconditionalBranch => [Some(inside()?), None],
                FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception => [None, None],
                FlowControl::Call if insn.target().is_some_and(&ends) => [None, None],
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => [following, None],
                FlowControl::IndirectBranch => return Err("it has a jump table".to_owned()),
                FlowControl::XbeginXabortXend => return Err("it has transactions".to_owned()),
            };
        }
        let mut before = vec![Vec::new(); insns.len()];
        for (i, to) in next.iter().enumerate() {
            for to in to.iter().flatten() {
                before[*to].push(i);
            }
        }
        let mut info = InstructionInfoFactory::new();
        let effects = insns.iter().map(|insn| effect(insn, &mut info)).collect();
        // The frame pointer's own slot is nobody's variable.
        let takes = |i: &&Insn| i.raw.mnemonic() == Mnemonic::Lea && i.points_rbp_at().is_none();
        let taken = insns.iter().filter(takes).filter_map(stack_operand);
        let taken_from = taken.min().unwrap_or(u32::MAX);
        let mut flow = Self { insns, next, before, effects, taken_from, equal: Vec::new() };
        flow.equal = flow.equalities();
        Ok(flow)
    }

    /// Copies that still stand, on every path.
    fn equalities(&self) -> Vec<BTreeSet<(u8, u32)>> {
        let mut equal: Vec<Option<BTreeSet<(u8, u32)>>> = vec![None; self.insns.len()];
        equal[0] = Some(BTreeSet::new());
        let mut todo = vec![0];
        // Sets only shrink, and each time one does it is looked at again.
        while let Some(i) = todo.pop() {
            let Some(now) = &equal[i] else { continue };
            let stays = |place| self.came_from(i, place) == Some(place);
            let mut after: BTreeSet<(u8, u32)> = now
                .iter()
                .copied()
                .filter(|(register, at)| stays(Place::Register(*register)) && stays(Place::Stack(*at)))
                .collect();
            if let Effect::Copy { from: Place::Register(r), to: Place::Stack(s) }
            | Effect::Copy { from: Place::Stack(s), to: Place::Register(r) } = self.effects[i]
                && after.len() < MAX_EQUAL
            {
                after.insert((r, s));
            }
            for to in self.next[i].iter().flatten() {
                let met = equal[*to].as_ref().map_or_else(|| after.clone(), |held| held & &after);
                if equal[*to].as_ref() != Some(&met) {
                    equal[*to] = Some(met);
                    todo.push(*to);
                }
            }
        }
        equal.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// The returns that are reached from the first instruction.
    pub fn returns(&self) -> Vec<usize> {
        let reached = self.reached(0, None);
        let is_return = |i: &usize| self.insns[*i].raw.flow_control() == FlowControl::Return;
        (0..self.insns.len()).filter(|i| reached[*i]).filter(is_return).collect()
    }

    /// Which instructions may run after the one at `from` (itself only if it may run again), not going through `avoid`.
    fn reached(&self, from: usize, avoid: Option<usize>) -> Vec<bool> {
        let mut seen = vec![false; self.insns.len()];
        let mut todo: Vec<usize> = if from == 0 && avoid != Some(0) { vec![0] } else { Vec::new() };
        if from != 0 {
            todo.extend(self.next[from].iter().flatten());
        }
        while let Some(i) = todo.pop() {
            if Some(i) == avoid || std::mem::replace(&mut seen[i], true) {
                continue;
            }
            todo.extend(self.next[i].iter().flatten());
        }
        seen
    }

    /// Whether `to` may run after `from`.
    pub fn leads(&self, from: usize, to: usize) -> bool {
        self.reached(from, None)[to]
    }

    /// Whether every path from the first instruction to `to` goes through `by`.
    pub fn passes(&self, by: usize, to: usize) -> bool {
        by != to && !self.reached(0, Some(by))[to]
    }

    /// For each instruction whether, before it runs, rbp points at the caller's saved one on every path.
    pub fn framed(&self) -> Vec<bool> {
        let mut state: Vec<Option<bool>> = vec![None; self.insns.len()];
        let mut todo = vec![(0, false)];
        while let Some((i, framed)) = todo.pop() {
            let joined = state[i].map_or(framed, |held| held && framed);
            if state[i] == Some(joined) {
                continue;
            }
            state[i] = Some(joined);
            let insn = &self.insns[i];
            let after = if insn.is_mov_rbp_rsp() || insn.points_rbp_at().is_some() {
                true
            } else {
                let lost = match &self.effects[i] {
                    Effect::Writes { registers, .. } => {
                        registers >> RBP & 1 == 1
                            || (registers >> RSP & 1 == 1 && insn.stack_growth().is_none())
                    }
                    Effect::Copy { to, .. } => matches!(to, Place::Register(RBP | RSP)),
                    Effect::Call => false,
                };
                joined && !lost
            };
            todo.extend(self.next[i].iter().flatten().map(|to| (*to, after)));
        }
        state.into_iter().map(|s| s == Some(true)).collect()
    }

    /// For each instruction where, before it runs, the value lies that will be returned in RAX.
    /// Absent where it lies nowhere for certain, or where no return follows.
    pub fn held(&self) -> Result<Vec<Option<Place>>, String> {
        // None: no return follows, as far as is known.
        let mut held: Vec<Option<Held>> = vec![None; self.insns.len()];
        for _ in 0..MAX_ROUNDS {
            let mut changed = false;
            for i in (0..self.insns.len()).rev() {
                let now = self.held_before(i, &held);
                changed |= now != held[i];
                held[i] = now;
            }
            if !changed {
                return Ok(held.into_iter().map(|h| h.as_ref().and_then(Self::first)).collect());
            }
        }
        Err("its loops are nested too deep".to_owned())
    }

    /// RAX before the stack before another register: the order in which a probe reads them easily.
    fn first(held: &Held) -> Option<Place> {
        let held = &held.exact;
        let register = (held.registers != 0).then(|| Place::Register(held.registers.trailing_zeros() as u8));
        let stack = held.stack.first().map(|at| Place::Stack(*at));
        register.filter(|r| *r == Place::RESULT).or(stack).or(register)
    }

    fn held_before(&self, i: usize, held: &[Option<Held>]) -> Option<Held> {
        if self.insns[i].raw.flow_control() == FlowControl::Return {
            let mut held = Held::default();
            held.exact.add(Place::RESULT);
            return Some(held);
        }
        let mut after: Option<Held> = None;
        for to in self.next[i].iter().flatten() {
            let Some(there) = &held[*to] else { continue };
            match &mut after {
                None => after = Some(there.clone()),
                Some(held) => held.meet(there),
            }
        }
        let after = after?;
        let mut before = Held::default();
        for (before, after) in [(&mut before.exact, &after.exact), (&mut before.added_to, &after.added_to)] {
            after.iter().filter_map(|place| self.came_from(i, place)).for_each(|from| before.add(from));
            for (register, at) in &self.equal[i] {
                let (register, slot) = (Place::Register(*register), Place::Stack(*at));
                if before.has(register) || before.has(slot) {
                    before.add(register);
                    before.add(slot);
                }
            }
        }
        if let Some((sum, base)) = added(&self.insns[i])
            && after.exact.has(sum)
        {
            before.added_to.add(base);
        }
        Some(before)
    }

    /// Where what lies at `place` behind instruction `i` lay before it: the same place, the one it was copied from, or
    /// none, where the instruction made it.
    fn came_from(&self, i: usize, place: Place) -> Option<Place> {
        match (&self.effects[i], place) {
            (Effect::Copy { from, to }, place) if *to == place => Some(*from),
            (Effect::Copy { to: Place::Stack(to), .. }, Place::Stack(at)) if at.abs_diff(*to) < 8 => None,
            (Effect::Copy { to: Place::Register(RSP), .. }, Place::Stack(_))
            | (Effect::Call, Place::Register(_)) => None,
            (Effect::Copy { .. }, place) => Some(place),
            (Effect::Call, Place::Stack(at)) => (at < self.taken_from).then_some(place),
            (Effect::Writes { registers, .. }, Place::Register(n)) => {
                (registers >> n & 1 == 0).then_some(place)
            }
            (Effect::Writes { registers, memory }, Place::Stack(at)) => {
                let written = match *memory {
                    Memory::None => false,
                    Memory::Stack(from, bytes) => {
                        at.saturating_add(8) > from && at < from.saturating_add(bytes)
                    }
                    Memory::Anywhere => at >= self.taken_from,
                };
                (!written && registers >> RSP & 1 == 0).then_some(place)
            }
        }
    }

    /// Where the values come from that the return at `i` hands out.
    pub fn origins(&self, i: usize) -> Vec<Origin> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut todo: Vec<(usize, Place)> =
            self.before[i].iter().map(|b| (*b, Place::Register(RAX))).collect();
        while let Some((i, place)) = todo.pop() {
            if !seen.insert((i, place)) {
                continue;
            }
            if seen.len() > MAX_ORIGINS {
                return vec![Origin::Other];
            }
            if let Some(from) = self.came_from(i, place) {
                if self.before[i].is_empty() {
                    found.push(Origin::Other);
                }
                todo.extend(self.before[i].iter().map(|b| (*b, from)));
                continue;
            }
            let insn = &self.insns[i];
            found.push(match (insn.raw.flow_control(), insn.target(), place) {
                (FlowControl::Call, Some(target), Place::Register(RAX)) => Origin::Call(target),
                _ if insn.raw.code() == Code::Lea_r64_m && insn.raw.is_ip_rel_memory_operand() => {
                    Origin::Constant
                }
                _ => Origin::Other,
            });
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn number(register: Register) -> Option<u8> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number() as u8)
}

/// The result and the base of `lea reg, [base + index]`.
fn added(insn: &Insn) -> Option<(Place, Place)> {
    let raw = &insn.raw;
    let sums = raw.code() == Code::Lea_r64_m && raw.memory_index_scale() == 1;
    let base = raw.memory_base();
    (sums && base.is_gpr64() && raw.memory_index().is_gpr64() && raw.memory_displacement64() == 0)
        .then(|| Some((Place::Register(number(raw.op0_register())?), Place::Register(number(base)?))))
        .flatten()
}

/// The offset of an operand `[rsp + d]`.
fn stack_operand(insn: &Insn) -> Option<u32> {
    let raw = &insn.raw;
    (raw.memory_base() == Register::RSP && raw.memory_index() == Register::None)
        .then(|| u32::try_from(raw.memory_displacement64()).ok())
        .flatten()
}

pub(super) fn effect(insn: &Insn, info: &mut InstructionInfoFactory) -> Effect {
    let raw = &insn.raw;
    if matches!(raw.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
        return Effect::Call;
    }
    let register = |operand: u32| {
        (raw.op_kind(operand) == OpKind::Register && raw.op_register(operand).is_gpr64())
            .then(|| number(raw.op_register(operand)).map(Place::Register))
            .flatten()
    };
    let copied = match raw.code() {
        Code::Mov_r64_rm64 if raw.op1_kind() == OpKind::Memory => {
            register(0).zip(stack_operand(insn).map(Place::Stack))
        }
        Code::Mov_rm64_r64 if raw.op0_kind() == OpKind::Memory => {
            stack_operand(insn).map(Place::Stack).zip(register(1))
        }
        Code::Mov_r64_rm64 | Code::Mov_rm64_r64 => register(0).zip(register(1)),
        _ => None,
    };
    if let Some((to, from)) = copied {
        return Effect::Copy { from, to };
    }
    let writes = |access| {
        matches!(
            access,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        )
    };
    let used = info.info(raw);
    let registers = used
        .used_registers()
        .iter()
        .filter(|u| writes(u.access()))
        .filter_map(|u| number(u.register()))
        .fold(0_u16, |all, n| all | 1 << n);
    let mut memory = Memory::None;
    for written in used.used_memory().iter().filter(|m| writes(m.access())) {
        let at = u32::try_from(written.displacement()).ok();
        memory = match (written.base(), written.index(), at) {
            (Register::RSP, Register::None, Some(at)) if memory == Memory::None => {
                Memory::Stack(at, written.memory_size().size() as u32)
            }
            // Globals are not on the stack.
            (Register::RIP | Register::None, Register::None, _) if memory == Memory::None => Memory::None,
            _ => Memory::Anywhere,
        };
    }
    Effect::Writes { registers, memory }
}
