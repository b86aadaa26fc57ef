//! The memory of a real process with some words changed: objects followed by address through the table of arenas, over
//! two collections. They are looked at before the change, behind it, and, as one more collection would have it, again.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use tracer_fuzz::patch::{Changed, Value};
use tracer_fuzz::process;
use tracer_user::goruntime::heap::census::HeapShape;
use tracer_user::goruntime::heap::followed::{self, Follower};
use tracer_user::record::samples::{Born, Fates, SampleKey};
use tracer_user::units::{KTime, ProcAddr};

/// No list names an object twice, and none that survived is in another one. What is unknown may also have died: a ledger
/// applies the lists in that order.
fn assert_fates(fates: &Fates, followed: usize) {
    let set = |keys: &Vec<SampleKey>| {
        let set: BTreeSet<SampleKey> = keys.iter().copied().collect();
        assert_eq!(set.len(), keys.len());
        set
    };
    let (survived, died, unknown) = (set(&fates.survived), set(&fates.died), set(&fates.unknown));
    assert!(survived.is_disjoint(&died) && survived.is_disjoint(&unknown));
    assert!((survived.len() + died.len()) as u64 + fates.untold <= followed as u64);
    assert!(unknown.len() <= followed);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, patches)) = process::changes(bytes) else { return };
    let process = &process::all()[which];
    let (base, state) = (&process.base, &process.state);
    let shape = HeapShape { inline_marks: base.inline_marks };
    let mut memory = Changed::memory(base);
    let now = followed::generation(&memory, state).expect("nothing was changed");
    let mut follower = Follower::default();
    let mut count = 0;
    let mut follow = |follower: &mut Follower, address: u64, born: Option<Born>| {
        count += 1;
        follower.follow(SampleKey { address: ProcAddr(address), at: KTime(count) }, born);
    };
    for (n, address) in base.objects.iter().enumerate() {
        let before = Born { generation: now.wrapping_sub(2), marking: false };
        let born = match n % 8 {
            0 => None,
            1 => Some(Born { generation: now, marking: true }),
            2 => Some(Born { generation: now.wrapping_sub(4), marking: false }),
            _ => Some(before),
        };
        follow(&mut follower, *address, born);
    }
    // Addresses that are anything, or near an object.
    for patch in patches.iter().take(32) {
        let near = base.objects[patch.at as usize % base.objects.len()];
        let address = match patch.to {
            Value::Word(word) => word,
            Value::Near(less) => u64::MAX - u64::from(less),
            _ => near.wrapping_add_signed(i64::from(patch.at.cast_signed() >> 8)),
        };
        let generation = now.wrapping_sub(u32::from(patch.run % 4));
        follow(&mut follower, address, Some(Born { generation, marking: patch.aligned }));
    }
    let followed = base.objects.len() + patches.len().min(32);
    if bytes[0] & 2 == 0 {
        let fates =
            follower.check(&memory, state, shape).expect("nothing was changed").expect("some are due");
        assert!(!fates.survived.is_empty() && fates.untold < followed as u64);
        assert_fates(&fates, followed);
    }
    memory.apply(&patches);
    let at = state.vars().mheap.plus(u64::from(process.layout.mheap_sweepgen));
    for later in [0, 2, 4] {
        if later > 0 {
            memory.put(at.0, &now.wrapping_add(later).to_le_bytes());
        }
        if let Ok(Some(fates)) = follower.check(&memory, state, shape) {
            assert_fates(&fates, followed);
        }
    }
});
