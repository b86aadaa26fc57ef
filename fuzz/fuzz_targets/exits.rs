//! Code of an allocator: the control flow of one function and the places where each object is seen exactly once. The
//! first byte says whether it is any bytes, instructions put together so that the jumps lead somewhere, or the
//! allocators of two real programs with bytes changed. What is chosen is held against paths that are simply walked.
#![no_main]

use std::collections::HashMap;
use std::sync::OnceLock;

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use libfuzzer_sys::fuzz_target;
use tracer_fuzz::patch::Changed;
use tracer_fuzz::process;
use tracer_user::binary::x86::{self, Emulates, Insn};
use tracer_user::goruntime::GoImage;
use tracer_user::goruntime::code::exits::{Chosen, choose, never_returns};
use tracer_user::goruntime::image::Function;
use tracer_user::units::ImageAddr;

/// Paths walked of one function, and instructions of one path.
const PATHS: usize = 8;
const STEPS: usize = 2_000;
const START: ImageAddr = ImageAddr(0x40_1000);
/// What calls to addresses that are no function's lead to, by the address.
const CALLED: [&str; 4] =
    ["runtime.throw", "runtime.mallocgcSmallNoscan", "runtime.persistentalloc", "runtime.nextFreeFast"];
/// push rbp; mov rbp,rsp; sub rsp,0x20
const FRAME: &[u8] = &[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20];
/// add rsp,0x20; pop rbp; ret
const LEAVE: &[u8] = &[0x48, 0x83, 0xc4, 0x20, 0x5d, 0xc3];
/// Instructions that make, keep, lose and move an object, or nothing of it.
const WORDS: [&[u8]; 15] = [
    FRAME,
    LEAVE,
    &[0x90],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    // mov rax,[rcx]
    &[0x48, 0x8b, 0x01],
    // mov [rsp+0x18],rax; mov rax,[rsp+0x18]
    &[0x48, 0x89, 0x44, 0x24, 0x18],
    &[0x48, 0x8b, 0x44, 0x24, 0x18],
    // mov [rsp+0x10],rcx; mov rcx,rax; mov rax,rcx
    &[0x48, 0x89, 0x4c, 0x24, 0x10],
    &[0x48, 0x89, 0xc1],
    &[0x48, 0x89, 0xc8],
    // xor eax,eax; lea rax,[rip+0x100]; lea rcx,[rsp+0x18]; lea rax,[rax+rdi]; ret
    &[0x31, 0xc0],
    &[0x48, 0x8d, 0x05, 0, 1, 0, 0],
    &[0x48, 0x8d, 0x4c, 0x24, 0x18],
    &[0x48, 0x8d, 0x04, 0x38],
    &[0xc3],
];

/// One real allocator, and the names of what it calls.
struct Allocator {
    function: Function,
    code: Vec<u8>,
    called: HashMap<ImageAddr, String>,
}

fn allocators() -> &'static [Allocator] {
    static ALL: OnceLock<Vec<Allocator>> = OnceLock::new();
    ALL.get_or_init(|| process::all().iter().flat_map(|process| of_program(&process.base)).collect())
}

fn of_program(base: &tracer_fuzz::base::Base) -> Vec<Allocator> {
    let file = Box::new(Changed::file(base));
    let image = GoImage::open(file, base.file_len).expect("nothing was changed");
    let names = image.function_names(|name| name.starts_with("runtime.mallocgc"));
    let of_name = |name: &String| {
        let function = image.function(name).expect("it has the name");
        let code = image.text_bytes(&function).expect("the base has it");
        let insns = x86::decode(&code, function.entry).expect("a compiler made it");
        let targets = insns.iter().filter_map(Insn::target);
        let called: HashMap<ImageAddr, String> = targets
            .filter_map(|at| Some((at, image.function_at(at).filter(|f| f.entry == at)?.name)))
            .collect();
        let one = Allocator { function, code, called };
        let chosen = one.choose(&one.code).expect("an allocator of a release");
        assert!(!chosen.exits.is_empty());
        one
    };
    names.iter().map(of_name).collect()
}

impl Allocator {
    fn choose(&self, code: &[u8]) -> Result<Chosen, String> {
        choose(code, &self.function, Emulates { long_nops: true }, |at| self.name(at))
    }

    fn name(&self, at: ImageAddr) -> Option<Function> {
        let name = self.called.get(&at).cloned().or_else(|| anyone(at))?;
        Some(Function { name, entry: at, end: at, assembly: false })
    }
}

fn anyone(at: ImageAddr) -> Option<String> {
    CALLED.get((at.0 % 8) as usize).map(|name| (*name).to_owned())
}

/// Two bytes for each instruction: which, and where it leads.
fn put_together(words: &[u8]) -> Vec<u8> {
    let pairs = || words.chunks_exact(2);
    let len = |word: u8| match word % 20 {
        kind @ 0..15 => WORDS[usize::from(kind)].len(),
        15 | 16 => 6,
        _ => 5,
    };
    let mut starts = vec![0];
    for pair in pairs() {
        starts.push(starts.last().copied().unwrap_or(0) + len(pair[0]));
    }
    let mut code = Vec::new();
    for (n, pair) in pairs().enumerate() {
        // Mostly to places nearby, in both directions.
        let to = n as i64 + i64::from(pair[1].cast_signed());
        let to = starts[to.clamp(0, starts.len() as i64 - 1) as usize] as i64;
        let away = |code: &Vec<u8>, len: i64| ((to - code.len() as i64 - len) as i32).to_le_bytes();
        match pair[0] % 20 {
            kind @ 0..15 => code.extend(WORDS[usize::from(kind)]),
            kind @ (15 | 16) => {
                let away = away(&code, 6);
                code.extend([0x0f, 0x84 | kind & 1]);
                code.extend(away);
            }
            17 => {
                let away = away(&code, 5);
                code.push(0xe9);
                code.extend(away);
            }
            _ => {
                // To one of eight addresses behind all code.
                let at = 0x10_0000 + i64::from(pair[1] % 8) - code.len() as i64 - 5;
                code.push(0xe8);
                code.extend((at as i32).to_le_bytes());
            }
        }
    }
    code
}

/// Three bytes for each change: where, and what; more than one instruction is rarely lost by it.
fn with_changes(code: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut code = code.to_vec();
    for change in changes.chunks_exact(3).take(64) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % code.len();
        code[at] = change[2];
    }
    code
}

/// Walks paths from the entry, which way at each branch by `ways`, and counts the chosen places on those that return.
fn walk(code: &[u8], one: &Allocator, chosen: &Chosen, ways: &[u8]) {
    let start = one.function.entry.0;
    let end = start + code.len() as u64;
    let mut ways = ways.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    for _ in 0..PATHS {
        let (mut at, mut passed) = (start, 0);
        for _ in 0..STEPS {
            let Some(rest) = code.get((at - start) as usize..).filter(|rest| !rest.is_empty()) else { break };
            let insn = Decoder::with_ip(64, rest, at, DecoderOptions::NONE).decode();
            passed += chosen.exits.iter().filter(|exit| exit.address.0 == at).count();
            let there = insn.near_branch_target();
            at = match insn.flow_control() {
                FlowControl::Return => {
                    assert!(passed <= 1, "an object is seen {passed} times");
                    break;
                }
                FlowControl::UnconditionalBranch => there,
                FlowControl::ConditionalBranch if ways.next().unwrap_or(false) => there,
                FlowControl::Call if one.name(ImageAddr(there)).is_some_and(|f| never_returns(&f.name)) => {
                    break;
                }
                FlowControl::Next
                | FlowControl::ConditionalBranch
                | FlowControl::Call
                | FlowControl::IndirectCall => insn.next_ip(),
                _ => break,
            };
            assert!((start..=end).contains(&at), "a function was taken whose jumps leave it");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let nowhere = || {
        let function =
            Function { name: "runtime.mallocgc".into(), entry: START, end: START, assembly: false };
        Allocator { function, code: Vec::new(), called: HashMap::new() }
    };
    let made;
    let (one, code) = match mode % 4 {
        0 => {
            made = nowhere();
            (&made, rest.to_vec())
        }
        1 => {
            made = nowhere();
            (&made, [FRAME, &put_together(rest), LEAVE].concat())
        }
        2 => {
            made = nowhere();
            // mov rax,[rcx] in front: there is an object whatever follows.
            (&made, [FRAME, WORDS[4], &put_together(rest), LEAVE].concat())
        }
        _ => {
            let one = &allocators()[usize::from(mode >> 2) % allocators().len()];
            (one, with_changes(&one.code, rest))
        }
    };
    if let Ok(chosen) = one.choose(&code) {
        assert!(!chosen.exits.is_empty() || !chosen.handed_on.is_empty());
        walk(&code, one, &chosen, rest);
    }
});
