//! Where an allocator hands out the object it made: instructions that every allocation passes exactly once, with the
//! object's address in a register or on the stack.
//!
//! Apart from `sites`, which looks at a function's first instructions only: a return cannot be probed cheaply (it is
//! single-stepped) and never by changing the return address (Go moves stacks). So the address is taken before the
//! return, at an instruction that the kernel emulates, and the whole function is walked to prove that the chosen set is
//! passed once on each path that returns a new object. A function for which that cannot be proven is refused.

use std::collections::BTreeSet;

use tracer_common::cookie::EXIT_STACK;

use super::super::error::GoError;
use super::super::image::{Function, GoImage};
use crate::binary::flow::{Flow, Origin, Place};
use crate::binary::x86::{self, Emulates, Insn, SiteKind};
use crate::units::{FileOffset, ImageAddr};

/// One place where an object's address can be taken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ExitSite {
    pub address: ImageAddr,
    pub function: String,
    pub file_offset: FileOffset,
    /// From the function's entry.
    pub offset: u64,
    pub instruction: SiteKind,
    /// The instruction as the file has it.
    pub bytes: Vec<u8>,
    /// Where the address is before the instruction runs.
    pub place: Place,
    /// The function was called by the allocator in its last step: the allocator's frame is the caller's.
    pub in_callee: bool,
}

/// What is returned by these is no object of the heap: memory that is never freed, with GODEBUG=sbrk=1 only
/// (runtime/malloc.go, mallocgc and preMallocgcDebug).
const NO_OBJECTS: [&str; 2] = ["runtime.preMallocgcDebug", "runtime.persistentalloc"];
/// An allocator's last call may be one of these, whose object it hands on (runtime/malloc_generated.go).
const HANDS_ON: &str = "runtime.mallocgc";

/// Calls of these never return (runtime/panic.go).
pub fn never_returns(name: &str) -> bool {
    matches!(name, "runtime.throw" | "runtime.fatal" | "runtime.fatalthrow" | "runtime.gopanic")
        || name.starts_with("runtime.panic")
        || name.starts_with("runtime.goPanic")
}

/// The places at which every object that `function` returns is seen exactly once.
pub fn exit_sites(image: &GoImage, function: &str, emulates: Emulates) -> Result<Vec<ExitSite>, GoError> {
    let mut sites = Vec::new();
    let mut handed_on = BTreeSet::new();
    for name in of_function(image, function, emulates, false, &mut sites)? {
        if handed_on.insert(name.clone()) {
            let further = of_function(image, &name, emulates, true, &mut sites)?;
            if !further.is_empty() {
                let why = format!("its objects come out of {}, two calls away", further.join(", "));
                return Err(GoError::NoSite { function: function.to_owned(), why });
            }
        }
    }
    sites.sort();
    Ok(sites)
}

/// Adds the sites inside one function; returns those whose objects it hands on.
fn of_function(
    image: &GoImage,
    name: &str,
    emulates: Emulates,
    in_callee: bool,
    sites: &mut Vec<ExitSite>,
) -> Result<Vec<String>, GoError> {
    let no_site = |why: String| GoError::NoSite { function: name.to_owned(), why };
    let function =
        image.function(name).ok_or_else(|| no_site("it is not in the function table".to_owned()))?;
    if function.assembly {
        return Err(no_site("it is written in assembly".to_owned()));
    }
    let bytes = image.text_bytes(&function)?;
    let called = |at: ImageAddr| image.function_at(at).filter(|f| f.entry == at);
    let chosen = choose(&bytes, &function, emulates, called).map_err(no_site)?;
    for exit in chosen.exits {
        let file_offset = image
            .file_offset(exit.address)
            .ok_or_else(|| no_site("its code is not in an executable segment of the file".to_owned()))?;
        let offset = exit.address.0 - function.entry.0;
        sites.push(ExitSite {
            address: exit.address,
            function: function.name.clone(),
            file_offset,
            offset,
            instruction: exit.kind,
            bytes: bytes[offset as usize..offset as usize + exit.len].to_vec(),
            place: exit.place,
            in_callee,
        });
    }
    Ok(chosen.handed_on)
}

/// An instruction that will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// Which of the function's instructions it is.
    pub index: usize,
    pub address: ImageAddr,
    pub kind: SiteKind,
    /// Bytes of it.
    pub len: usize,
    /// Where the object is before it runs.
    pub place: Place,
}

/// The instructions of one function that each object passes once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    pub exits: Vec<Exit>,
    /// Functions whose results are returned as they are.
    pub handed_on: Vec<String>,
}

/// What a return hands out.
enum Returned {
    /// No object: an address in the program, or memory that is never freed.
    Nothing,
    HandedOn(Vec<String>),
    Object,
}

/// Returns of one function; those with more are refused. The allocators of go1.19 to go1.27 have up to 6.
const MAX_RETURNS: usize = 64;
/// Instructions walked to choose a set before the function is refused: a fraction of a second.
const MAX_STEPS: usize = 1 << 26;

/// The set for one function, whose bytes may be anything; `called` knows the function that begins at an address. An error
/// says why there is none.
pub fn choose(
    bytes: &[u8],
    function: &Function,
    emulates: Emulates,
    called: impl Fn(ImageAddr) -> Option<Function>,
) -> Result<Chosen, String> {
    let insns =
        x86::decode(bytes, function.entry).map_err(|e| format!("its bytes are not all instructions: {e}"))?;
    let ends = |at| called(at).is_some_and(|f| never_returns(&f.name));
    let flow = Flow::of(&insns, ends)?;
    let candidates = candidates(&insns, &flow, emulates)?;
    let (mut wanted, mut handed_on, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let returns = flow.returns();
    if returns.len() > MAX_RETURNS {
        return Err(format!("it returns at {} places", returns.len()));
    }
    if returns.len() * candidates.len() * insns.len() > MAX_STEPS {
        return Err(format!("it has {} places to choose from", candidates.len()));
    }
    for end in returns {
        let choices: Vec<Exit> = candidates.iter().copied().filter(|c| flow.passes(c.index, end)).collect();
        match returned(&flow.origins(end), &called) {
            Returned::Nothing => others.push(end),
            Returned::HandedOn(names) if choices.is_empty() => {
                others.push(end);
                handed_on.extend(names);
            }
            Returned::HandedOn(_) | Returned::Object if choices.is_empty() => {
                return Err(format!(
                    "no instruction that the kernel emulates holds the object before the return at {}",
                    insns[end].address()
                ));
            }
            Returned::HandedOn(_) | Returned::Object => wanted.push((end, choices)),
        }
    }
    if wanted.is_empty() && handed_on.is_empty() {
        return Err("it returns no object".to_owned());
    }
    let mut exits = Vec::new();
    let mut walks = MAX_STEPS / insns.len();
    if !settle(&flow, &wanted, &others, &mut exits, &mut walks) {
        return Err("no set of instructions is passed exactly once by every object".to_owned());
    }
    exits.sort_by_key(|e| e.index);
    exits.dedup();
    handed_on.sort();
    handed_on.dedup();
    Ok(Chosen { exits, handed_on })
}

fn returned(origins: &[Origin], called: &impl Fn(ImageAddr) -> Option<Function>) -> Returned {
    let mut names = Vec::new();
    for origin in origins {
        match origin {
            Origin::Constant => {}
            Origin::Call(at) => match called(*at).map(|f| f.name) {
                Some(name) if NO_OBJECTS.contains(&name.as_str()) => {}
                Some(name) if name.starts_with(HANDS_ON) => names.push(name),
                _ => return Returned::Object,
            },
            Origin::Other => return Returned::Object,
        }
    }
    if names.is_empty() { Returned::Nothing } else { Returned::HandedOn(names) }
}

/// The instructions that the kernel emulates, that run at most once per call, with the frame set up and the object at
/// hand: cheapest first.
fn candidates(insns: &[Insn], flow: &Flow<'_>, emulates: Emulates) -> Result<Vec<Exit>, String> {
    let (held, framed) = (flow.held()?, flow.framed());
    let mut found: Vec<Exit> = insns
        .iter()
        .enumerate()
        .filter(|(index, _)| framed[*index])
        .filter_map(|(index, insn)| {
            let (kind, place) = (insn.site_kind(emulates)?, held[index]?);
            // The kernel side reads RAX and the stack.
            let readable = match place {
                Place::Stack(at) => at.is_multiple_of(8) && at < EXIT_STACK,
                place @ Place::Register(_) => place == Place::RESULT,
            };
            if !readable {
                return None;
            }
            Some(Exit { index, address: insn.address(), kind, len: insn.len(), place })
        })
        .filter(|exit| !flow.leads(exit.index, exit.index))
        .collect();
    found.sort_by_key(|exit| (exit.kind, exit.index));
    Ok(found)
}

/// One choice for each return so that no path passes two of them, and none on the way to `others`; at most so many walks
/// over the function.
fn settle(
    flow: &Flow<'_>,
    wanted: &[(usize, Vec<Exit>)],
    others: &[usize],
    exits: &mut Vec<Exit>,
    walks: &mut usize,
) -> bool {
    let Some(((_, choices), rest)) = wanted.split_first() else {
        return true;
    };
    for choice in choices {
        *walks = walks.saturating_sub(1 + others.len() + 2 * exits.len());
        if *walks == 0 {
            return false;
        }
        let apart = |other: &Exit| {
            other.index == choice.index
                || !flow.leads(other.index, choice.index) && !flow.leads(choice.index, other.index)
        };
        if others.iter().any(|end| flow.leads(choice.index, *end)) || !exits.iter().all(apart) {
            continue;
        }
        exits.push(*choice);
        if settle(flow, rest, others, exits, walks) {
            return true;
        }
        exits.pop();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Emulates = Emulates { long_nops: true };
    const ENTRY: u64 = 0x1000;
    /// push rbp; mov rbp,rsp; sub rsp,0x20
    const FRAME: &[u8] = &[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20];
    /// add rsp,0x20; pop rbp; ret
    const LEAVE: &[u8] = &[0x48, 0x83, 0xc4, 0x20, 0x5d, 0xc3];
    const NOP: &[u8] = &[0x90];
    /// mov rax,[rcx]: an object out of nowhere.
    const MAKE: &[u8] = &[0x48, 0x8b, 0x01];
    /// mov [rsp+0x18],rax and back
    const SAVE: &[u8] = &[0x48, 0x89, 0x44, 0x24, 0x18];
    const LOAD: &[u8] = &[0x48, 0x8b, 0x44, 0x24, 0x18];
    /// test rdx,rdx
    const TEST: &[u8] = &[0x48, 0x85, 0xd2];
    /// xor eax,eax
    const LOSE: &[u8] = &[0x31, 0xc0];
    /// lea rax,[rip+0x100]
    const NONE: &[u8] = &[0x48, 0x8d, 0x05, 0, 1, 0, 0];
    /// call +0x100, somewhere else
    const CALL: &[u8] = &[0xe8, 0, 1, 0, 0];

    fn je(over: usize) -> Vec<u8> {
        vec![0x74, over as u8]
    }

    fn function(name: &str, entry: ImageAddr) -> Function {
        Function { name: name.into(), entry, end: entry, assembly: false }
    }

    /// Offsets and places, and the functions that hand on.
    type Found = (Vec<(u64, Place)>, Vec<String>);

    /// What is chosen; every call goes to a function of that name.
    fn chosen(parts: &[&[u8]], callee: &str) -> Result<Found, String> {
        let entry = ImageAddr(ENTRY);
        let called = |at: ImageAddr| Some(function(callee, at));
        let chosen = choose(&parts.concat(), &function("runtime.mallocgc", entry), NEW, called)?;
        let exits = chosen.exits.iter().map(|e| (e.address.0 - ENTRY, e.place)).collect();
        Ok((exits, chosen.handed_on))
    }

    const RESULT: Place = Place::RESULT;

    #[test]
    fn the_place_before_the_return_where_the_object_is() {
        let (exits, handed_on) = chosen(&[FRAME, MAKE, NOP, LEAVE], "runtime.x").unwrap();
        assert_eq!((exits, handed_on.len()), (vec![(11, RESULT)], 0));
        // Kept on the stack over a call that takes everything else.
        let parts = [FRAME, MAKE, SAVE, LOSE, NOP, CALL, LOAD, LEAVE];
        assert_eq!(chosen(&parts, "runtime.x").unwrap().0, [(18, Place::Stack(0x18))]);
        // Behind the frame's end there is none.
        let late = [FRAME, MAKE, &LEAVE[..5], NOP, &LEAVE[5..]];
        assert!(chosen(&late, "runtime.x").is_err());
        assert!(chosen(&[FRAME, NOP, MAKE, LEAVE], "runtime.x").is_err(), "not made yet");
        assert!(chosen(&[FRAME, MAKE, LOSE, NOP, LEAVE], "runtime.x").unwrap().0 == [(13, RESULT)]);
    }

    #[test]
    fn each_path_is_seen_once() {
        // Two ways that meet: the place is where they are one again, not the jump that only one of them passes.
        let around = je(NOP.len());
        let parts = [FRAME, MAKE, TEST, &around, NOP, NOP, LEAVE];
        assert_eq!(chosen(&parts, "runtime.x").unwrap().0, [(17, RESULT)]);
        // Two returns of two objects: a place for each.
        let first = [NOP, LEAVE].concat();
        let over = je(MAKE.len() + first.len());
        let parts = [FRAME, TEST, &over, MAKE, &first, MAKE, NOP, LEAVE];
        assert_eq!(chosen(&parts, "runtime.x").unwrap().0, [(16, RESULT), (26, RESULT)]);
        // The second way has none.
        let parts = [FRAME, TEST, &over, MAKE, &first, MAKE, LEAVE];
        assert!(chosen(&parts, "runtime.x").is_err());
        // A place that runs again and again: jne back to the nop.
        let parts = [FRAME, MAKE, NOP, TEST, &[0x75, 0xfa], LEAVE];
        assert!(chosen(&parts, "runtime.x").is_err());
    }

    #[test]
    fn what_is_no_object_needs_no_place() {
        let some = [MAKE, NOP, LEAVE].concat();
        let over = je(some.len());
        let parts = [FRAME, TEST, &over, &some, NONE, LEAVE];
        assert_eq!(chosen(&parts, "runtime.x").unwrap().0, [(16, RESULT)]);
        assert!(chosen(&[FRAME, NONE, NOP, LEAVE], "runtime.x").is_err());
    }

    #[test]
    fn an_object_handed_on_is_seen_in_the_callee() {
        let some = [MAKE, NOP, LEAVE].concat();
        let over = je(some.len());
        let parts = [FRAME, TEST, &over, &some, CALL, LEAVE];
        let (exits, handed_on) = chosen(&parts, "runtime.mallocgcSlow").unwrap();
        assert_eq!((exits, handed_on), (vec![(16, RESULT)], vec!["runtime.mallocgcSlow".to_owned()]));
        assert!(chosen(&parts, "runtime.other").is_err(), "whose object that is nobody knows");
        let (exits, handed_on) = chosen(&parts, "runtime.persistentalloc").unwrap();
        assert_eq!((exits.len(), handed_on.len()), (1, 0));
    }

    #[test]
    fn a_call_that_never_returns_ends_its_path() {
        // Behind the throw lies what only the other way reaches.
        let over = je(CALL.len());
        let parts = [FRAME, TEST, &over, CALL, MAKE, NOP, LEAVE];
        assert_eq!(chosen(&parts, "runtime.throw").unwrap().0, [(21, RESULT)]);
    }

    #[test]
    fn a_slot_whose_address_is_known_elsewhere_is_not_trusted_over_a_call() {
        // lea rcx,[rsp+0x18]
        let take = &[0x48, 0x8d, 0x4c, 0x24, 0x18][..];
        let parts = [FRAME, take, MAKE, SAVE, NOP, CALL, LOAD, LEAVE];
        assert!(chosen(&parts, "runtime.x").is_err());
    }

    #[test]
    fn a_function_without_end_is_refused_in_time() {
        assert!(chosen(&[], "runtime.x").is_err());
        // jne to the next instruction, which is a place to choose; jne over a return.
        let some = [0x75, 0, 0x75, 1, 0xc3];
        let many = |times: usize| [FRAME, MAKE, &some.repeat(times), LEAVE].concat();
        assert_eq!(chosen(&[&many(2)], "runtime.x").unwrap().0, [(11, RESULT)]);
        assert_eq!(chosen(&[&many(63)], "runtime.x").unwrap().0, [(11, RESULT)]);
        for times in [64, 1000] {
            let returns = chosen(&[&many(times)], "runtime.x").unwrap_err();
            assert!(returns.contains("returns at"), "{returns}");
        }
        let long = chosen(&[FRAME, MAKE, &[0x90; 5000], LEAVE], "runtime.x").unwrap_err();
        assert!(long.contains("instructions"), "{long}");
    }

    #[test]
    fn a_sum_is_in_the_object_only_where_another_path_returns_the_start() {
        // lea rax,[rax+rdi]
        let sum = &[0x48, 0x8d, 0x04, 0x38][..];
        let over = je(sum.len());
        let parts = [FRAME, MAKE, SAVE, NOP, LOAD, TEST, &over, sum, LEAVE];
        assert_eq!(chosen(&parts, "runtime.x").unwrap().0, [(16, RESULT)]);
        assert!(chosen(&[FRAME, MAKE, SAVE, NOP, LOAD, sum, LEAVE], "runtime.x").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_chosen_from_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            for parts in [[FRAME, &bytes[..]].concat(), [FRAME, MAKE, &bytes[..], LEAVE].concat()] {
                let _any = chosen(&[&parts], "runtime.x").is_ok();
            }
        }
    }
}
