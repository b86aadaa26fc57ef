//! The direct calls of some functions in all of the program's code, each with what it passes.
//!
//! Apart because it reads the code of the whole program, once for all who ask: that takes a second for a program of a
//! hundred megabytes. It finds calls and judges none.

use super::super::image::{Function, GoImage};
use crate::binary::operands::{self, Call};
use crate::binary::x86;
use crate::memory::ReadAt as _;
use crate::units::ImageAddr;

/// Code read at a time.
const WINDOW: u64 = 1 << 20;
/// Code beyond this is not looked at: the largest known Go programs have a third of it.
const MAX_TEXT: u64 = 1 << 30;
/// `call rel32`.
const CALL: u8 = 0xe8;
const CALL_LEN: u64 = 5;

/// Shows every direct call of one of `targets`, which are sorted, with the function it is made in, in address order. Gives the number
/// of functions whose code could not be read or decoded.
pub(super) fn each_call(
    image: &GoImage,
    targets: &[ImageAddr],
    mut see: impl FnMut(&Function, &Call),
) -> u64 {
    let mut undecoded = 0;
    each_caller(image, targets, |function| {
        let calls = image
            .text_bytes(function)
            .ok()
            .and_then(|bytes| x86::decode(&bytes, function.entry).ok())
            .map(|insns| operands::calls(&insns));
        match calls {
            Some(calls) => calls
                .iter()
                .filter(|call| targets.binary_search(&call.target).is_ok())
                .for_each(|call| see(function, call)),
            None => undecoded += 1,
        }
    });
    undecoded
}

/// Functions with a byte pattern that may be a call of one of `targets`; decoding them tells.
fn each_caller(image: &GoImage, targets: &[ImageAddr], mut see: impl FnMut(&Function)) {
    let text = image.module().text;
    let end = text.end.min(ImageAddr(text.start.0.saturating_add(MAX_TEXT)));
    let memory = image.memory();
    let mut done = text.start;
    let mut from = text.start;
    while from < end {
        // Windows overlap by a call, so that none is cut.
        let len = (end.0 - from.0).min(WINDOW + CALL_LEN);
        let mut bytes = vec![0; len as usize];
        if memory.read(from, &mut bytes).is_ok() {
            for (i, window) in bytes.windows(CALL_LEN as usize).enumerate() {
                if window[0] != CALL {
                    continue;
                }
                let at = from.0 + i as u64;
                let distance = i32::from_le_bytes([window[1], window[2], window[3], window[4]]);
                let target = ImageAddr((at + CALL_LEN).wrapping_add_signed(i64::from(distance)));
                if ImageAddr(at) < done || targets.binary_search(&target).is_err() {
                    continue;
                }
                if let Some(function) = image.function_at(ImageAddr(at)) {
                    done = function.end;
                    see(&function);
                }
            }
        }
        from = ImageAddr(from.0 + WINDOW);
    }
}
