//! Probe sites of one call that allocates: the call itself, and the place behind it where its object can be taken.
//!
//! Apart from `sites` and `exits`, which are about the runtime's functions: a pinned call is the program's own, and runs as often
//! as that line of code does, whatever else the program allocates. The call instruction is emulated by the kernel, so that a probe on
//! it costs a trap and no single step; so is the place behind it, where there is one before the result is lost.

use tracer_common::cookie::{EXIT_STACK, Shape};

use super::super::error::GoError;
use super::super::image::GoImage;
use super::call_sites::is_named;
use super::sites::ProbeSite;
use crate::binary::behind::{Behind, behind};
use crate::binary::flow::Place;
use crate::binary::operands::{self, Value};
use crate::binary::x86::{self, Emulates, Insn, SiteKind};
use crate::units::{Bytes, ImageAddr};

/// Where one call is probed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// The function it calls.
    pub callee: ImageAddr,
    /// The call instruction; not probed where [`Object::alone`].
    pub call: ProbeSite,
    /// Where its object is, and in which place; absent where the result is lost before any instruction that can be probed cheaply.
    pub object: Option<Object>,
    /// What it asks for; absent where that is known only while the program runs.
    pub size: Option<Bytes>,
}

/// Where an object is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    pub at: ProbeSite,
    pub place: Place,
    /// Whatever comes there comes from the call: a probe there needs none on the call.
    pub alone: bool,
}

/// Functions of which the first result is the object that the call made. `mapassign` gives a place inside of one. Where only one of the
/// strings that `concatstrings` joins is not empty it may give that one. A name ending in `*` is a prefix.
const GIVES: [&str; 15] = [
    "runtime.newobject",
    "runtime.mallocgc*",
    "runtime.makeslice*",
    "runtime.growslice*",
    "runtime.moveSlice*",
    "runtime.makechan*",
    "runtime.makemap*",
    "runtime.convT*",
    "runtime.slicebytetostring*",
    "runtime.stringtoslice*",
    "runtime.slicerunetostring",
    "runtime.concat*",
    "runtime.raw*",
    "runtime.intstring",
    "runtime.unsafe_New*",
];
/// Functions that allocate one value of the type they are given (runtime/malloc.go newobject, iface.go convT).
const OF_ONE_VALUE: [&str; 3] = ["runtime.newobject", "runtime.convT", "runtime.convTnoptr"];
/// mallocgc(size, typ, needzero) and go1.27's for one size each: the size is the first argument.
const OF_A_SIZE: &str = "runtime.mallocgc";

/// The sites of the direct call that returns to `end`; `type_addr` is the type it passes.
pub fn pin(
    image: &GoImage,
    end: ImageAddr,
    type_addr: Option<ImageAddr>,
    emulates: Emulates,
) -> Result<Pin, GoError> {
    let no_site = |function: &str, why: &str| GoError::NoSite { function: function.into(), why: why.into() };
    let inside = ImageAddr(end.0.saturating_sub(1));
    let function =
        image.function_at(inside).ok_or_else(|| no_site(&end.to_string(), "it is in no function"))?;
    let bytes = image.text_bytes(&function)?;
    let insns = x86::decode(&bytes, function.entry)
        .map_err(|e| no_site(&function.name, &format!("its bytes are not all instructions: {e}")))?;
    let is_call = |insn: &Insn| insn.end() == end && insn.site_kind(emulates) == Some(SiteKind::Call);
    let call = insns.iter().position(is_call);
    let (call, callee) = call
        .and_then(|call| Some((call, insns[call].target()?)))
        .ok_or_else(|| no_site(&function.name, "what it calls there is known only as it runs"))?;
    let at = insns[call].address();
    let probe = |address: ImageAddr, kind: SiteKind, len: usize, shape: Shape| {
        let offset = address.0 - function.entry.0;
        let file_offset = image.file_offset(address)?;
        Some(ProbeSite {
            function: function.name.clone(),
            shape,
            address,
            file_offset,
            offset,
            instruction: kind,
            bytes: bytes.get(offset as usize..offset as usize + len)?.to_vec(),
            caller_at_sp: false,
        })
    };
    let outside = || no_site(&function.name, "its code is not in an executable segment of the file");
    let name = image.function_at(callee).map(|callee| callee.name).unwrap_or_default();
    let object = behind(&insns, call, emulates, EXIT_STACK).filter(|_| gives(&name)).and_then(
        |Behind { address, kind, len, place, alone }| {
            let shape = if alone { Shape::SampleAt } else { Shape::SampleEnd };
            Some(Object { at: probe(address, kind, len, shape)?, place, alone })
        },
    );
    Ok(Pin {
        callee,
        call: probe(at, SiteKind::Call, insns[call].len(), Shape::SampleBegin).ok_or_else(outside)?,
        object,
        size: type_addr.and_then(|of| size(image, at, &name, of, &insns)),
    })
}

fn gives(callee: &str) -> bool {
    GIVES.iter().any(|pattern| is_named(pattern, callee))
}

fn size(image: &GoImage, at: ImageAddr, callee: &str, type_addr: ImageAddr, insns: &[Insn]) -> Option<Bytes> {
    if OF_ONE_VALUE.contains(&callee) {
        return Some(image.type_info(type_addr).ok()?.size);
    }
    if !callee.starts_with(OF_A_SIZE) {
        return None;
    }
    let calls = operands::calls(insns);
    match calls.iter().find(|call| call.at == at)?.arguments {
        [Value::Constant(size), ..] => Some(Bytes(size)),
        _ => None,
    }
}
