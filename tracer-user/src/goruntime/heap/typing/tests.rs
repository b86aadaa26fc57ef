//! Types against objects made by hand, and against objects that are anything.

use proptest::prelude::*;

use super::*;
use crate::goruntime::heap::sample::Sampled;
use crate::record::census::{Amount, Population};

const START: u64 = 0x5000;
const TEXT: u64 = 0x1000;
const BIAS: u64 = 0x10_0000;

struct Section(Vec<u8>);

impl Section {
    fn new() -> Self {
        let mut b = vec![0; 8];
        b.extend([1, 3]);
        b.extend(b"int");
        b.resize(16, 0);
        // A field's name: F.
        b.extend([0, 1, b'F', 0, 0, 0, 0, 0]);
        Self(b)
    }

    fn ty(&mut self, size: u64, ptr_bytes: u64, kind: u8, behind: &[u64]) -> u64 {
        let at = START + self.0.len() as u64;
        let named = if kind == 25 && behind[0] == 1 { 0 } else { 4 };
        for word in [size, ptr_bytes] {
            self.0.extend(word.to_le_bytes());
        }
        self.0.extend([1, 2, 3, 4, named, 8, 8, kind]);
        for word in [0, START, 8] {
            self.0.extend(u64::to_le_bytes(word));
        }
        for word in behind {
            self.0.extend(word.to_le_bytes());
        }
        at
    }

    fn fields(&mut self, fields: &[(u64, u64)]) -> u64 {
        let at = START + self.0.len() as u64;
        for (ty, offset) in fields {
            for word in [START + 16, *ty, *offset] {
                self.0.extend(word.to_le_bytes());
            }
        }
        at
    }
}

/// The types of the tests by name: where their descriptors are.
struct World {
    types: Types,
    int: u64,
    text: u64,
    user: u64,
    label: u64,
    pair: u64,
    flag: u64,
    closure: u64,
    any: u64,
}

fn world() -> World {
    world_and(|_, _, _| {})
}

/// The same with further types, given a string's and a number's.
fn world_and(further: impl FnOnce(&mut Section, u64, u64)) -> World {
    let mut s = Section::new();
    let int = s.ty(8, 0, 2, &[]);
    let bool_ = s.ty(1, 0, 1, &[]);
    let code = s.ty(8, 0, 12, &[]);
    let text = s.ty(16, 8, 24, &[]);
    let any = s.ty(16, 16, 20, &[0, 0, 0, 0]);
    let list = s.fields(&[(text, 0), (int, 16)]);
    let user = s.ty(24, 8, 25, &[0, list, 2, 2]);
    let to_user = s.ty(8, 8, 22, &[user]);
    let list = s.fields(&[(to_user, 0), (int, 8)]);
    let label = s.ty(16, 8, 25, &[0, list, 2, 2]);
    let list = s.fields(&[(to_user, 0), (to_user, 8)]);
    let pair = s.ty(16, 16, 25, &[0, list, 2, 2]);
    let list = s.fields(&[(to_user, 0), (bool_, 8)]);
    let flag = s.ty(16, 8, 25, &[0, list, 2, 2]);
    let list = s.fields(&[(code, 0), (to_user, 8)]);
    let closure = s.ty(16, 16, 25, &[1, list, 2, 2]);
    // What has a package path of 1 is an unnamed type of these tests.
    further(&mut s, text, int);
    let table = TypeTable::of_bytes(ImageAddr(START), s.0);
    let text_range = Range { start: ImageAddr(TEXT), end: ImageAddr(TEXT + 0x1000) };
    let types = Types { table, bias: LoadBias(BIAS), texts: vec![text_range] };
    World { types, int, text, user, label, pair, flag, closure, any }
}

fn heap(slot: u64, noscan: bool, mark: Mark) -> Pointee {
    Pointee::Heap { into: 0, slot, class: 1, noscan, mark, head: None }
}

impl World {
    /// What an object of 16 bytes may be, by the addresses of descriptors; arrays are negative.
    fn of(&self, words: [u64; 2], pointers: u64, pointees: &[(u8, Pointee)]) -> Vec<i64> {
        self.of_class(2, &words, pointers, pointees, 26)
    }

    fn of_class(
        &self,
        class: u8,
        words: &[u64],
        pointers: u64,
        pointees: &[(u8, Pointee)],
        minor: u32,
    ) -> Vec<i64> {
        let found = Found::Words { words: words.to_vec(), pointers, pointees: pointees.to_vec() };
        let slot = Bytes(8 * words.len() as u64);
        let object = Object { class, slot, hits: 1, bytes: slot, found };
        let layout = Layout::for_minor(minor).unwrap();
        let candidates = of_object(&object, &mut Fits::new(&self.types, layout));
        let number = |c: &Candidate| (c.type_addr.0 - BIAS) as i64 * if c.array { -1 } else { 1 };
        let mut all: Vec<i64> = candidates.iter().map(number).collect();
        all.sort_unstable();
        all
    }
}

const AT: u64 = 0xc000_0000;

#[test]
fn what_an_object_holds_tells_its_type() {
    let w = world();
    let is = |at: u64| vec![at as i64];
    // A string's bytes hold no pointers and its length fits.
    assert_eq!(w.of([AT, 11], 0b01, &[(0, heap(16, true, Mark::None))]), is(w.text));
    // The same words before a user: its bitmap is a user's, its slot too.
    let user = heap(24, false, Mark::Bits(0b001));
    assert_eq!(w.of([AT, 11], 0b01, &[(0, user)]), is(w.label));
    // A bool fits as well as a number: both are said.
    assert_eq!(w.of([AT, 1], 0b01, &[(0, user)]), vec![w.label as i64, w.flag as i64]);
    // Longer than the bytes behind it: no string. A pointee with another bitmap: no user.
    assert_eq!(w.of([AT, 99], 0b01, &[(0, heap(16, true, Mark::None))]), vec![0; 0]);
    assert_eq!(w.of([AT, 99], 0b01, &[(0, heap(24, false, Mark::Bits(0b011)))]), vec![0; 0]);
    // Code in front of a pointer is a closure; a type in front of one is an interface's.
    assert_eq!(w.of([BIAS + TEXT + 8, AT], 0b10, &[(1, user)]), is(w.closure));
    let boxed = [(0, Pointee::Outside { head: None }), (1, heap(8, true, Mark::None))];
    assert_eq!(w.of([BIAS + w.int, AT], 0b10, &boxed), is(w.any));
    // Two pointers: one struct, or an array of what they are.
    let both = w.of([AT, AT], 0b11, &[(0, user), (1, user)]);
    assert!(both.contains(&(w.pair as i64)) && both.len() == 2 && both[0] < 0, "{both:?}");
    assert_eq!(w.of([0, 0], 0b00, &[]), vec![0; 0]);
}

#[test]
fn a_value_is_in_its_own_size_class_and_ended_in_zeros_before_1_24() {
    let w = world();
    let text = (0, heap(16, true, Mark::None));
    assert_eq!(w.of_class(3, &[AT, 11, 7], 0b001, &[text], 26), vec![w.user as i64]);
    // Three users are 72 bytes, for which the allocator takes 80.
    let pointees: Vec<(u8, Pointee)> = [0, 3, 6].map(|n| (n, text.1)).to_vec();
    let words = |last| [AT, 11, 1, AT, 11, 2, AT, 11, 3, last];
    let of = |last, minor| w.of_class(7, &words(last), 0b100_1001, &pointees, minor);
    assert_eq!((of(0, 23), of(5, 23)), (vec![-(w.user as i64)], vec![]));
    assert_eq!((of(0, 24), of(5, 24)), (vec![-(w.user as i64)], vec![-(w.user as i64)]));
}

#[test]
fn what_the_heap_names_must_be_a_type_that_fits() {
    let w = world();
    let layout = Layout::for_minor(26).unwrap();
    let judge = Judge { types: &w.types, layout };
    let named = |at: u64, slot| judge.named(ProcAddr(at), slot).map(|c| c.array);
    assert_eq!(named(BIAS + w.user, 24), Some(false));
    assert_eq!(named(BIAS + w.user, 1024), Some(true));
    assert_eq!(named(BIAS + w.user, 16), None);
    assert_eq!(named(BIAS + w.user + 8, 1024), None);
    assert_eq!(named(w.user, 1024), None);
    // It would be in a span without pointers.
    assert_eq!(named(BIAS + w.int, 1024), None);
}

#[test]
fn words_that_types_look_behind_are_told() {
    let w = world_and(|s, text, _| {
        let func = s.ty(8, 8, 19, &[0]);
        let list = s.fields(&[(text, 0), (func, 16)]);
        s.ty(24, 24, 25, &[0, list, 2, 2]);
    });
    let mut known = Fits::new(&w.types, Layout::for_minor(26).unwrap());
    let mut heads = |class, pointers| known.of(class, pointers).heads;
    assert_eq!((heads(3, 0b101), heads(5, 0b10_1101)), (0b100, 0b10_0100));
    assert_eq!((heads(2, 0b01), heads(0, 0b101), heads(200, 0b101)), (0, 0, 0));
}

fn any_pointee() -> impl Strategy<Value = Pointee> {
    let word = || {
        prop_oneof![
            any::<u64>(),
            0_u64..4,
            Just(BIAS + TEXT + 8),
            START..START + 1400,
            BIAS + START..BIAS + START + 1400,
        ]
    };
    let mark = prop_oneof![
        Just(Mark::None),
        any::<u64>().prop_map(Mark::Bits),
        word().prop_map(|w| Mark::Typed(ProcAddr(w)))
    ];
    let head = proptest::option::of([word(), word()]);
    let heap = (any::<u64>(), any::<u64>(), any::<bool>(), mark, head.clone()).prop_map(
        |(into, slot, noscan, mark, head)| Pointee::Heap { into, slot, class: 3, noscan, mark, head },
    );
    prop_oneof![heap, head.prop_map(|head| Pointee::Outside { head })]
}

proptest! {
    #[test]
    fn kin_are_judged_as_each_of_them_would_be(
        words in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(AT), BIAS + START..BIAS + START + 900], 2..4),
        pointers in 0_u64..8,
        pointees in proptest::collection::vec((0_u8..4, any_pointee()), 0..4),
        minor in 22_u32..=27,
    ) {
        // Another user, and what points to it.
        let w = world_and(|s, text, int| {
            let list = s.fields(&[(text, 0), (int, 16)]);
            let other = s.ty(24, 8, 25, &[0, list, 2, 2]);
            s.ty(8, 8, 22, &[other]);
        });
        prop_assert_eq!(w.types.table.shaped(3, 1).map(<[TypeId]>::len).max(), Some(2));
        let layout = Layout::for_minor(minor).unwrap();
        let mut known = Fits::new(&w.types, layout);
        let fits = &known.of(words.len() as u8, pointers).fits;
        let each = fits.iter().flat_map(|fit| fit.kin.chunks(1).map(|kin| Fit { kin, count: fit.count }));
        let seen = Seen::new(Judge { types: &w.types, layout }, &words, &pointees);
        prop_assert_eq!(seen.best(fits), seen.best(&each.collect::<Vec<_>>()));
    }

    #[test]
    fn what_no_type_looks_behind_need_not_be_read(
        values in 1_usize..=2,
        some in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(AT), BIAS + START..BIAS + START + 1400], 6),
        of_one in 0b001_u64..=0b011,
        pointees in proptest::collection::vec((0_u8..6, any_pointee()), 1..6),
        minor in 24_u32..=27,
    ) {
        // A func beside a text, and a method table beside a number.
        let mut types = Vec::new();
        let w = world_and(|s, text, int| {
            let func = s.ty(8, 8, 19, &[0]);
            let list = s.fields(&[(func, 0), (text, 8)]);
            s.ty(24, 16, 25, &[0, list, 2, 2]);
            let method = s.fields(&[]);
            let interface = s.ty(16, 16, 20, &[0, method, 1, 1]);
            let list = s.fields(&[(interface, 0), (int, 16)]);
            s.ty(24, 16, 25, &[0, list, 2, 2]);
            types = vec![interface, int, text, func];
        });
        // Small numbers stand for these types' descriptors.
        let word = |word: u64| types.get(word as usize).map_or(word, |at| BIAS + at);
        let pointees: Vec<(u8, Pointee)> = pointees.into_iter().map(|(at, pointee)| (at, match pointee {
            Pointee::Outside { head } => Pointee::Outside { head: head.map(|head| head.map(word)) },
            Pointee::Heap { into, slot, class, noscan, mark, head } => {
                Pointee::Heap { into, slot, class, noscan, mark, head: head.map(|head| head.map(word)) }
            }
        })).collect();
        let words = &some[..3 * values];
        let (class, pointers) = if values == 1 { (3, of_one) } else { (5, of_one | of_one << 3) };
        let layout = Layout::for_minor(minor).unwrap();
        let mut known = Fits::new(&w.types, layout);
        let fitting = known.of(class, pointers);
        let without: Vec<(u8, Pointee)> = pointees.iter().map(|&(word, pointee)| {
            let looked_at = fitting.heads >> word & 1 == 1;
            (word, match pointee {
                Pointee::Outside { head } => Pointee::Outside { head: head.filter(|_| looked_at) },
                Pointee::Heap { into, slot, class, noscan, mark, head } => {
                    Pointee::Heap { into, slot, class, noscan, mark, head: head.filter(|_| looked_at) }
                }
            })
        }).collect();
        let best = |pointees: &[(u8, Pointee)]| {
            Seen::new(Judge { types: &w.types, layout }, words, pointees).best(&fitting.fits)
        };
        prop_assert_eq!(best(&pointees), best(&without));
    }

    #[test]
    fn any_object_has_types_or_none(
        class in 0_u8..=255, slot in 0_u64..600,
        words in proptest::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(1), BIAS + START..BIAS + START + 900], 0..70),
        pointers in prop_oneof![any::<u64>(), 0_u64..16],
        pointees in proptest::collection::vec((any::<u8>(), any_pointee()), 0..14),
        minor in 22_u32..=27,
    ) {
        let w = world();
        let of = Amount { objects: 5, bytes: Bytes(5 * slot) };
        let object = |found| Object { class, slot: Bytes(slot), hits: 1, bytes: Bytes(slot), found };
        let objects = vec![
            object(Found::Words { words, pointers, pointees }),
            object(Found::Typed(ProcAddr(BIAS + START + slot))),
        ];
        let sample = Sample { population: Population::Survived, classes: vec![Sampled { of, objects }] };
        let shares = shares(&sample, &mut Fits::new(&w.types, Layout::for_minor(minor).unwrap()));
        prop_assert_eq!(shares.iter().map(|s| s.hits).sum::<u64>(), 2);
        prop_assert!(shares.iter().all(|s| s.candidates.len() <= MAX_CANDIDATES));
    }
}
