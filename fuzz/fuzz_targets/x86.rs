//! Any bytes as instructions: decoding, references, and the choice of a probe site.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::binary::x86::{self, Emulates, Reg};
use tracer_user::goruntime::code::sites::choose;
use tracer_user::units::ImageAddr;

fuzz_target!(|bytes: &[u8]| {
    let start = ImageAddr(0x40_1000);
    if let Ok(insns) = x86::decode(bytes, start) {
        assert_eq!(insns.iter().map(x86::Insn::len).sum::<usize>(), bytes.len());
        assert!(x86::pc_relative(&insns).count() <= insns.len());
    }
    for long_nops in [false, true] {
        drop(choose(bytes, start, &[Reg::Rax, Reg::Rbx], Emulates { long_nops }));
    }
});
