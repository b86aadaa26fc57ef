//! Which types an object can be of by its size and where its pointers are.
//!
//! Apart from `typing`, which holds such types against the object's words: this looks at no object. It also says behind which
//! words a type of them has something of its own to see, so that `sample` reads no first words that no type asks for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::typing::Types;
use crate::goruntime::layout::{CLASS_TO_SIZE, Layout};
use crate::goruntime::names::type_table::{MAX_SHAPE, Part, TypeId};

/// Types that fit an object's size and bitmap, kin of each other.
#[derive(Clone, Copy)]
pub(super) struct Fit<'t> {
    pub(super) kin: &'t [TypeId],
    /// How many values of it, one after the other.
    pub(super) count: u64,
}

/// All types whose pointers lie as in a bitmap.
#[derive(Default)]
pub(super) struct Fitting<'t> {
    pub(super) fits: Vec<Fit<'t>>,
    /// Bit n: what the n-th word points to begins with words that one of them has an opinion of.
    pub(super) heads: u64,
}

/// The types of an image by the class and the bitmap of their objects.
pub(super) struct Fits<'a> {
    pub(super) types: &'a Types,
    pub(super) layout: &'a Layout,
    known: HashMap<(u8, u64), Fitting<'a>>,
}

impl<'a> Fits<'a> {
    pub(super) fn new(types: &'a Types, layout: &'a Layout) -> Self {
        Self { types, layout, known: HashMap::new() }
    }

    /// Those of a class and a bitmap, which is looked for once.
    pub(super) fn of(&mut self, class: u8, pointers: u64) -> &Fitting<'a> {
        match self.known.entry((class, pointers)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(room) => room.insert(fitting(self.types, self.layout, class, pointers)),
        }
    }
}

/// All types whose pointers lie as in the bitmap, alone or one after the other, and for which the allocator takes this class.
fn fitting<'a>(types: &'a Types, layout: &Layout, class: u8, pointers: u64) -> Fitting<'a> {
    let slot = CLASS_TO_SIZE.get(usize::from(class)).map_or(0, |s| u64::from(*s));
    let mut found = Fitting::default();
    let needs = |bytes: u64| layout.placement(bytes, true).class == Some(class);
    for words in 1..=slot.min(MAX_SHAPE) / 8 {
        let mask = pointers & ones(words);
        let bytes = 8 * words;
        // The most values that fit are what append makes; fewer are as many as need this class.
        let mut counts = (1..=slot / bytes).rev().take_while(|n| needs(n * bytes));
        let whole = counts.find(|n| tiled(words, mask, *n) == pointers);
        for kin in types.table.shaped(words, mask) {
            let entry = types.table.get(kin[0]);
            let count = if entry.size == bytes {
                whole
            } else {
                (entry.size <= slot && needs(entry.size) && mask == pointers).then_some(1)
            };
            let Some(count) = count else { continue };
            found.fits.push(Fit { kin, count });
            // Closures begin with code, method tables with types. Kin have the same parts.
            let looked_at = |part: &Part| matches!(part, Part::Func | Part::Interface(_));
            let own = entry.parts.iter().filter(|(_, part)| looked_at(part));
            let own = own.fold(0, |all, (at, _)| all | bit(u64::from(*at) / 8));
            found.heads |= tiled(words, own, count);
        }
    }
    found
}

fn bit(word: u64) -> u64 {
    1_u64.checked_shl(word as u32).unwrap_or(0)
}

pub(super) fn ones(words: u64) -> u64 {
    if words >= 64 { u64::MAX } else { (1 << words) - 1 }
}

/// The bitmap of `count` values in a row, each of so many words.
fn tiled(words: u64, mask: u64, count: u64) -> u64 {
    (0..count).fold(0, |all, n| all | mask.checked_shl((n * words) as u32).unwrap_or(0))
}
