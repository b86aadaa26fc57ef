//! What the registers hold at a call, as far as the instructions before it say so.
//!
//! Apart because it reads code for what it passes, not for where it may be probed. It follows a straight line only:
//! at a place that a jump leads to, and behind a call, everything is forgotten. It never guesses: what it does not
//! understand is unknown.

use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::x86::Insn;
use crate::units::ImageAddr;

/// What is known of a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Value {
    #[default]
    Unknown,
    /// The address of something in the program: `lea reg, [rip + d]`.
    Address(ImageAddr),
    /// The word that lies there: `mov reg, [rip + d]`.
    WordAt(ImageAddr),
    /// A number that the instruction holds: `mov ebx, 1`, `xor ebx, ebx`.
    Constant(u64),
}

/// Go's registers for the first words of the arguments (cmd/compile/abi-internal.md, amd64).
const ARGUMENTS: [Register; 5] = [Register::RAX, Register::RBX, Register::RCX, Register::RDI, Register::RSI];

/// A direct call and what the first words of its arguments are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    pub at: ImageAddr,
    /// Where the call returns to.
    pub end: ImageAddr,
    pub target: ImageAddr,
    pub arguments: [Value; ARGUMENTS.len()],
}

/// The sixteen general registers.
#[derive(Default)]
struct Registers([Value; 16]);

impl Registers {
    fn get(&self, register: Register) -> Value {
        index(register).map_or(Value::Unknown, |i| self.0[i])
    }

    fn set(&mut self, register: Register, value: Value) {
        if let Some(i) = index(register) {
            self.0[i] = value;
        }
    }
}

fn index(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

/// The direct calls of one function, in address order.
pub fn calls(insns: &[Insn]) -> Vec<Call> {
    let mut joins: Vec<ImageAddr> = insns.iter().filter_map(Insn::jump_target).collect();
    joins.sort_unstable();
    let mut info = InstructionInfoFactory::new();
    let mut registers = Registers::default();
    let mut calls = Vec::new();
    for insn in insns {
        if joins.binary_search(&insn.address()).is_ok() {
            registers = Registers::default();
        }
        let raw = &insn.raw;
        match raw.flow_control() {
            FlowControl::Next | FlowControl::ConditionalBranch => {}
            flow => {
                if let (FlowControl::Call, Some(target)) = (flow, insn.target()) {
                    let arguments = ARGUMENTS.map(|register| registers.get(register));
                    calls.push(Call { at: insn.address(), end: insn.end(), target, arguments });
                }
                registers = Registers::default();
                continue;
            }
        }
        let of_program = raw.is_ip_rel_memory_operand().then(|| ImageAddr(raw.ip_rel_memory_address()));
        let value = match (raw.code(), of_program) {
            (Code::Lea_r64_m, Some(at)) => Value::Address(at),
            (Code::Mov_r64_rm64, Some(at)) => Value::WordAt(at),
            (Code::Mov_r64_rm64 | Code::Mov_rm64_r64, None)
                if raw.op0_kind() == OpKind::Register && raw.op1_kind() == OpKind::Register =>
            {
                registers.get(raw.op1_register())
            }
            _ => number(raw).map_or(Value::Unknown, Value::Constant),
        };
        for used in info.info(raw).used_registers() {
            let writes = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
            if writes {
                registers.set(used.register(), Value::Unknown);
            }
        }
        if value != Value::Unknown {
            registers.set(raw.op0_register(), value);
        }
    }
    calls
}

/// The number that an instruction leaves in the whole of its first register: writes of half a register clear the other half.
fn number(raw: &Instruction) -> Option<u64> {
    if raw.op0_kind() != OpKind::Register || !matches!(raw.op0_register().size(), 4 | 8) {
        return None;
    }
    match raw.mnemonic() {
        Mnemonic::Mov => {
            let number = raw.try_immediate(1).ok()?;
            Some(if raw.op0_register().size() == 4 { number & u64::from(u32::MAX) } else { number })
        }
        Mnemonic::Xor => {
            let same = raw.op1_kind() == OpKind::Register && raw.op1_register() == raw.op0_register();
            same.then_some(0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::x86;

    const ENTRY: u64 = 0x1000;

    fn of(pieces: &[&[u8]]) -> Vec<Call> {
        let bytes: Vec<u8> = pieces.concat();
        calls(&x86::decode(&bytes, ImageAddr(ENTRY)).expect("instructions"))
    }

    /// lea rax, [rip + 0x100]
    const TYPE: &[u8] = &[0x48, 0x8d, 0x05, 0, 1, 0, 0];
    /// mov rbx, [rip + 0x200]
    const MAP: &[u8] = &[0x48, 0x8b, 0x1d, 0, 2, 0, 0];
    /// mov rcx, [rip + 0x200]; mov rbx, rcx
    const BY_RCX: &[u8] = &[0x48, 0x8b, 0x0d, 0, 2, 0, 0, 0x48, 0x89, 0xcb];
    /// mov ebx, 1
    const LOSE: &[u8] = &[0xbb, 1, 0, 0, 0];
    /// call +0x300
    const CALL: &[u8] = &[0xe8, 0, 3, 0, 0];
    /// je +0 (the next instruction is a join)
    const JOIN: &[u8] = &[0x74, 0];

    /// xor ebx, ebx
    const NIL: &[u8] = &[0x31, 0xdb];

    /// What the first two arguments of each call are.
    fn passed(pieces: &[&[u8]]) -> Vec<(Value, Value)> {
        of(pieces).iter().map(|call| (call.arguments[0], call.arguments[1])).collect()
    }

    #[test]
    fn operands_of_a_call_are_told() {
        let [call] = of(&[TYPE, MAP, CALL])[..] else { panic!("one call") };
        assert_eq!((call.at, call.end), (ImageAddr(ENTRY + 14), ImageAddr(ENTRY + 19)));
        assert_eq!(call.target, ImageAddr(ENTRY + 14 + 5 + 0x300));
        let ty = Value::Address(ImageAddr(ENTRY + 7 + 0x100));
        let map = Value::WordAt(ImageAddr(ENTRY + 14 + 0x200));
        assert_eq!(passed(&[TYPE, MAP, CALL]), [(ty, map)]);
        assert_eq!(passed(&[TYPE, BY_RCX, CALL]), [(ty, map)]);
        assert_eq!(passed(&[TYPE, LOSE, CALL]), [(ty, Value::Constant(1))]);
        assert_eq!(passed(&[TYPE, NIL, CALL]), [(ty, Value::Constant(0))]);
    }

    #[test]
    fn what_was_overwritten_called_or_joined_is_unknown() {
        // mov bl, 1: the rest of the register is what it was.
        assert_eq!(passed(&[NIL, &[0xb3, 1], CALL]), [(Value::Unknown, Value::Unknown)]);
        assert_eq!(passed(&[TYPE, MAP, JOIN, CALL]), [(Value::Unknown, Value::Unknown)]);
        let [first, second] = passed(&[TYPE, MAP, CALL, CALL])[..] else { panic!("two calls") };
        assert_ne!(first.0, Value::Unknown);
        assert_eq!(second, (Value::Unknown, Value::Unknown));
    }

    proptest::proptest! {
        #[test]
        fn any_instructions_are_followed(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Ok(insns) = x86::decode(&bytes, ImageAddr(ENTRY)) {
                calls(&insns);
            }
        }
    }
}
