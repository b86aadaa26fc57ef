//! What a session must be allowed at each of its stages; the rest it gives up. docs/design/0012 says why each of them.
//!
//! Apart so that the whole list can be read at once. It must never take from a program that we start: [`to_open`] comes
//! behind its fork.

use rustix::thread::CapabilitySet;

use super::setup::{Setup, Subject};
use crate::{
    host::{
        privileges::{held, keep, without},
        registry::Registration,
    },
    kernel::{AttachChoice, AttachKind},
};

/// To go where file modes keep others out: to an executable that only its owner reads, and away with the empty file of a session that
/// is refused.
const PASS_MODES: CapabilitySet = CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::DAC_OVERRIDE);

/// While the target is opened and probes are attached.
pub(super) fn to_open(setup: &Setup) {
    let probes = setup.probed().any().then_some(match setup.attach {
        AttachChoice::Multi => AttachKind::Multi,
        // What the kernel takes shows when it is asked.
        AttachChoice::Auto | AttachChoice::Single => AttachKind::Single,
    });
    let held = held();
    keep(reading(held) | probing(held, probes) | PASS_MODES | signalling(&setup.subject));
}

/// From the moment the target is open and `probes` are attached. They may come and go until the end.
pub(super) fn to_watch(setup: &Setup, probes: Option<AttachKind>) {
    let held = held();
    keep(reading(held) | probing(held, probes) | signalling(&setup.subject));
}

/// While a program that we started goes on, and its report is written.
pub(super) fn to_await(setup: &Setup) {
    keep(signalling(&setup.subject));
}

/// For one reading, while the target is opened.
pub(super) fn to_open_once() {
    keep(reading(held()) | PASS_MODES);
}

/// For one reading of a target that is open.
pub(super) fn to_read() {
    keep(reading(held()));
}

/// For a thread that looks whether the session is asked to let go.
pub(super) fn to_be_asked(registration: &Registration) {
    if without(PASS_MODES, || registration.hears()) {
        keep(CapabilitySet::empty());
    } else {
        keep(passing_modes(held()));
    }
}

/// For a thread that waits for what it already holds.
pub(super) fn to_wait() {
    keep(CapabilitySet::empty());
}

/// Reading a process. Without CAP_SYS_PTRACE the kernel lets us read a process of our own user that holds no capability which we
/// lack (security/commoncap.c, `cap_ptrace_access_check`): then any of them may be the one that counts.
fn reading(held: CapabilitySet) -> CapabilitySet {
    if held.contains(CapabilitySet::SYS_PTRACE) { CapabilitySet::SYS_PTRACE } else { held }
}

/// Loading eBPF programs and linking them. CAP_SYS_ADMIN stands in for either of the two, as before Linux 5.8.
fn probing(held: CapabilitySet, probes: Option<AttachKind>) -> CapabilitySet {
    let both = CapabilitySet::BPF | CapabilitySet::PERFMON;
    match probes {
        None => CapabilitySet::empty(),
        Some(AttachKind::Multi) if held.contains(both) => both,
        Some(AttachKind::Multi | AttachKind::Single) => both | CapabilitySet::SYS_ADMIN,
    }
}

/// Opening what its owner keeps to itself. CAP_DAC_OVERRIDE does what CAP_DAC_READ_SEARCH does, and more.
fn passing_modes(held: CapabilitySet) -> CapabilitySet {
    if held.contains(CapabilitySet::DAC_READ_SEARCH) { CapabilitySet::DAC_READ_SEARCH } else { PASS_MODES }
}

/// Passing signals on to a program that we started and that became another user.
fn signalling(subject: &Subject) -> CapabilitySet {
    match subject {
        Subject::Pid(_) => CapabilitySet::empty(),
        Subject::Command { .. } => CapabilitySet::KILL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: CapabilitySet = CapabilitySet::all();
    const BOTH: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

    #[test]
    fn readers_keep_one_and_those_without_it_what_they_have() {
        assert_eq!(reading(ALL), CapabilitySet::SYS_PTRACE);
        let container = CapabilitySet::CHOWN | CapabilitySet::KILL;
        assert_eq!(reading(container), container);
    }

    #[test]
    fn probes_keep_the_administrator_only_where_nothing_less_does() {
        assert_eq!(probing(ALL, None), CapabilitySet::empty());
        assert_eq!(probing(ALL, Some(AttachKind::Multi)), BOTH);
        assert_eq!(probing(BOTH, Some(AttachKind::Multi)), BOTH);
        for (held, kind) in [
            (ALL, AttachKind::Single),
            (CapabilitySet::SYS_ADMIN, AttachKind::Multi),
            (CapabilitySet::SYS_ADMIN | CapabilitySet::BPF, AttachKind::Multi),
        ] {
            assert!(probing(held, Some(kind)).contains(CapabilitySet::SYS_ADMIN), "{held:?}");
        }
    }

    #[test]
    fn the_lesser_way_past_modes_is_taken_where_there_is_one() {
        assert_eq!(passing_modes(ALL), CapabilitySet::DAC_READ_SEARCH);
        assert!(passing_modes(CapabilitySet::DAC_OVERRIDE).contains(CapabilitySet::DAC_OVERRIDE));
    }
}
