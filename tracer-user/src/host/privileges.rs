//! The capabilities of the calling thread, and how it gives them up.
//!
//! Apart because a capability belongs to a thread, not to the process: what is given up here is gone for this thread and for those
//! that it starts from then on, and for no other. Nothing comes back. Who needs what, and when, is the session's business.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What this thread may use; nothing where that cannot be told.
pub fn held() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// From here on this thread holds nothing but what it holds of `needed`, and a program that it would execute gets nothing at all.
/// Where a sandbox refuses, it goes on with what it has: that is no more than it was given.
pub fn keep(needed: CapabilitySet) {
    // First what takes a capability of its own, or must come while inheritable ones are there.
    clear_bounding_set();
    let (Ok(()) | Err(_)) = clear_ambient_capability_set();
    let (Ok(()) | Err(_)) = set_no_new_privs(true);
    if let Ok(CapabilitySets { effective, permitted, inheritable: _ }) = capabilities(None) {
        let (Ok(()) | Err(_)) = set_capabilities(
            None,
            CapabilitySets {
                effective: effective & needed,
                permitted: permitted & needed,
                inheritable: CapabilitySet::empty(),
            },
        );
    }
}

/// What `look` finds where this thread may not use `set`, which it may again afterwards.
pub fn without<T>(set: CapabilitySet, look: impl FnOnce() -> T) -> T {
    let Ok(before) = capabilities(None) else { return look() };
    let lowered = CapabilitySets { effective: before.effective - set, ..before };
    let (Ok(()) | Err(_)) = set_capabilities(None, lowered);
    let found = look();
    let (Ok(()) | Err(_)) = set_capabilities(None, before);
    found
}

/// Takes CAP_SETPCAP; without it the set stays, which `no_new_privs` makes harmless.
fn clear_bounding_set() {
    for number in 0..u64::BITS {
        // Past the last one that the kernel knows, or not allowed.
        if remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own: the other tests keep what they have.
    fn apart<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(run).join().unwrap()
    }

    #[test]
    fn what_is_given_up_is_gone_for_this_thread_alone() {
        let before = held();
        let needed = CapabilitySet::SYS_PTRACE | CapabilitySet::BPF;
        let (kept, sets, again) = apart(move || {
            keep(needed);
            let kept = held();
            let sets = capabilities(None).unwrap();
            keep(CapabilitySet::all());
            (kept, sets, held())
        });
        assert_eq!(kept, before & needed);
        assert_eq!(sets.inheritable, CapabilitySet::empty());
        assert_eq!(again, kept, "nothing comes back");
        assert_eq!(held(), before);
    }

    #[test]
    fn looking_without_one_is_for_a_moment() {
        let before = held();
        let (during, after) = apart(|| (without(CapabilitySet::all(), held), held()));
        assert_eq!(during, CapabilitySet::empty());
        assert_eq!(after, before);
    }
}
