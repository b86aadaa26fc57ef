//! Memory that says anything: the census ends, never panics, and its figures never contradict themselves.

use proptest::prelude::*;

use super::*;
use crate::memory::ReadFault;

/// Answers every address: words of the runtime's variables as given, anything else from a hash of the address.
struct Anything {
    seed: u64,
    /// Parts of the address space that are there.
    mapped: u64,
    words: Vec<(u64, u64)>,
    /// Not there at all.
    hole: std::ops::Range<u64>,
}

impl ReadAt<ProcAddr> for Anything {
    fn read(&self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        for (i, byte) in buf.iter_mut().enumerate() {
            let at = addr.0.wrapping_add(i as u64);
            let word = at & !7;
            let mut x = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed;
            x = (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let given = self.words.iter().find(|(a, _)| *a == word).map(|(_, value)| *value);
            if self.hole.contains(&at) || given.is_none() && (word >> 12) % 8 >= self.mapped {
                return Err(ReadFault { addr: addr.0, len: buf.len(), kind: FaultKind::Unmapped });
            }
            // Small numbers are more like spans than large ones.
            let value = given.unwrap_or(if x.is_multiple_of(3) { x % 1024 } else { x });
            *byte = value.to_le_bytes()[(at & 7) as usize];
        }
        Ok(())
    }
}

fn vars(mheap: u64) -> StateVars {
    let at = ProcAddr(mheap);
    StateVars {
        memstats: at,
        gc_controller: at,
        work: at,
        allgs: at,
        allglen: at,
        allgptr: at,
        mheap: at,
        wait_reason_strings: None,
    }
}

const HEAP: u64 = 0x60_0000;
const LIST: u64 = 0x100_0000;
const STRUCTS: u64 = 0x200_0000;
const BITS: u64 = 0x300_0000;
const PAGES: u64 = 0xc000_0000;

/// A heap of sound spans in memory.
#[derive(Default)]
struct Model {
    words: Vec<(u64, u64)>,
    spans: u64,
}

impl Model {
    fn new(sweepgen: u64) -> Self {
        let l = Layout::for_minor(26).unwrap();
        let words = vec![(HEAP + u64::from(l.mheap_sweepgen), sweepgen)];
        Self { words, spans: 0 }
    }

    /// A span of 16-byte objects with pointers, at its own page.
    fn span(&mut self, sweepgen: u32, freeindex: u64, allocated: u64, alloc: u64, marks: u64, inline: u64) {
        let l = Layout::for_minor(26).unwrap();
        let (n, at) = (self.spans, STRUCTS + self.spans * 256);
        self.spans += 1;
        let (bits, page) = (BITS + n * 256, PAGES + n * PAGE);
        let objects = 40;
        self.words.extend([
            (LIST + n * 8, at),
            (at + u64::from(l.mspan_start_addr), page),
            (at + u64::from(l.mspan_npages), 1),
            (at + u64::from(l.mspan_freeindex), freeindex | objects << 16),
            (at + u64::from(l.mspan_alloc_bits), bits),
            (at + u64::from(l.mspan_gcmark_bits), bits + 128),
            (at + u64::from(l.mspan_sweepgen), u64::from(sweepgen)),
            (at + u64::from(l.mspan_alloc_count), allocated | 4 << 16 | 1 << 24),
            (at + u64::from(l.mspan_elemsize), 16),
            (at + u64::from(l.mspan_large_type.unwrap()), 0),
            (bits, alloc),
            (bits + 128, marks),
            (page + PAGE - 64, inline),
        ]);
    }

    fn memory(mut self) -> Anything {
        let l = Layout::for_minor(26).unwrap();
        let list = HEAP + u64::from(l.mheap_allspans);
        self.words.extend([(list, LIST), (list + 8, self.spans), (list + 16, self.spans)]);
        Anything { seed: 0, mapped: 8, words: self.words, hole: 0..0 }
    }
}

fn census(model: Model, inline_marks: bool) -> Census {
    let l = Layout::for_minor(26).unwrap();
    count(&model.memory(), l, &vars(HEAP), HeapShape { inline_marks }, Limits::default()).unwrap().census
}

fn one(model: Model, inline_marks: bool) -> (u64, u64, u64) {
    let census = census(model, inline_marks);
    let class = census.classes.first().copied().unwrap_or_default();
    (class.survived.objects, class.since.objects, census.torn)
}

#[test]
fn the_bits_that_decide_are_those_of_the_sweepers_progress() {
    let with = |sweepgen, freeindex, allocated, inline_marks| {
        let mut model = Model::new(8);
        model.span(sweepgen, freeindex, allocated, 0b1111_0000, 0b11, 0b1_0000_0001);
        one(model, inline_marks)
    };
    // Swept: four survived, two were allocated in front of them since.
    assert_eq!(with(8, 2, 6, true), (4, 2, 0));
    // A processor allocates from it: the counts may move.
    assert_eq!(with(11, 2, 6, true), (4, 2, 0));
    // Not swept: the marks decide, inline ones too where this collector has them.
    assert_eq!(with(6, 2, 6, true), (3, 0, 0));
    assert_eq!(with(6, 2, 6, false), (2, 0, 0));
    assert_eq!(with(9, 2, 6, true), (3, 0, 0));
    // Being swept, of another time, or its count is not that of its bits: never guessed.
    assert_eq!(with(7, 2, 6, true), (0, 0, 1));
    assert_eq!(with(2, 2, 6, true), (0, 0, 1));
    assert_eq!(with(8, 2, 7, true), (0, 0, 1));
    assert_eq!(with(6, 2, 1, true), (0, 0, 1));
}

#[test]
fn two_spans_on_one_page_count_once() {
    let l = Layout::for_minor(26).unwrap();
    let mut model = Model::new(8);
    model.span(8, 0, 1, 1, 0, 0);
    model.span(8, 0, 2, 3, 0, 0);
    let second = STRUCTS + 256 + u64::from(l.mspan_start_addr);
    for word in &mut model.words {
        if word.0 == second {
            word.1 = PAGES;
        }
    }
    let census = census(model, true);
    assert_eq!((census.classes[0].survived.objects, census.classes[0].spans, census.torn), (2, 1, 1));
    assert_eq!((census.cycle, census.cycle_end), (4, 4));
}

#[test]
fn a_span_that_cannot_be_read_is_counted_and_beyond_the_cap_too() {
    let mut model = Model::new(8);
    for _ in 0..5 {
        model.span(8, 0, 1, 1, 0, 0);
    }
    let mut memory = model.memory();
    memory.hole = STRUCTS..STRUCTS + 256;
    let l = Layout::for_minor(26).unwrap();
    let limits = Limits { spans: 4, ..Limits::default() };
    let census = count(&memory, l, &vars(HEAP), HeapShape { inline_marks: false }, limits).unwrap().census;
    assert_eq!((census.classes[0].spans, census.unread), (3, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_memory_gives_a_census_or_an_error(
        seed in any::<u64>(), mapped in 0_u64..=8, minor in 19_u32..=27, len in 0_u64..600, array in any::<u64>(),
        inline_marks in any::<bool>(), sweepgen in any::<u32>(),
    ) {
        let layout = Layout::for_minor(minor).unwrap();
        let list = HEAP + u64::from(layout.mheap_allspans);
        let words = vec![
            (list, array), (list + 8, len), (list + 16, len),
            (HEAP + (u64::from(layout.mheap_sweepgen) & !7), u64::from(sweepgen) << (8 * (layout.mheap_sweepgen & 7))),
        ];
        let memory = Anything { seed, mapped, words, hole: 0..0 };
        let limits = Limits { spans: 500, index: 300 };
        if let Ok(counted) = count(&memory, layout, &vars(HEAP), HeapShape { inline_marks }, limits) {
            let spans: u64 = counted.census.classes.iter().map(|c| c.spans).sum();
            prop_assert!(spans + counted.census.torn <= 500);
            prop_assert!(counted.spans.iter().count() <= 300);
        }
    }
}
