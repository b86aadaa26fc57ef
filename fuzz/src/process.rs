//! The real programs of fuzz/bases as processes: their runtime state opened as it was, to be read after changes.

use std::sync::OnceLock;

use arbitrary::{Arbitrary, Unstructured};
use tracer_user::goruntime::code::hooks::MapKind;
use tracer_user::goruntime::layout::Layout;
use tracer_user::goruntime::state::profile::ProfileVars;
use tracer_user::goruntime::state::{RuntimeState, StateVars};
use tracer_user::units::ProcAddr;

use crate::base::Base;
use crate::patch::{Changed, Patch};

/// One program and its runtime, checked while nothing was changed.
pub struct Process {
    pub base: Base,
    pub layout: &'static Layout,
    pub state: RuntimeState,
    pub profile: Option<ProfileVars>,
    pub maps: MapKind,
}

impl Process {
    fn open(packed: &[u8]) -> Self {
        let base = Base::unpack(packed);
        let layout = Layout::for_minor(base.minor).expect("a version of the table");
        let [memstats, gc_controller, work, allgs, allglen, allgptr, mheap] = base.vars.map(ProcAddr);
        let wait_reason_strings = base.wait_reasons.map(ProcAddr);
        let vars =
            StateVars { memstats, gc_controller, work, allgs, allglen, allgptr, mheap, wait_reason_strings };
        let memory = Changed::memory(&base);
        let state = RuntimeState::open(&memory, layout, vars, base.unix_ns).expect("nothing was changed");
        let profile = base.profile.map(|[mbuckets, cycle, rate]| ProfileVars {
            mbuckets: ProcAddr(mbuckets),
            cycle: ProcAddr(cycle),
            rate: ProcAddr(rate),
        });
        let maps = if base.swiss { MapKind::Swiss } else { MapKind::Buckets };
        Self { base, layout, state, profile, maps }
    }
}

/// Go 1.20 and Go 1.26: both kinds of maps, headers and profile records, marks in pages and apart.
pub fn all() -> &'static [Process; 2] {
    static ALL: OnceLock<[Process; 2]> = OnceLock::new();
    ALL.get_or_init(|| {
        [include_bytes!("../bases/go1.20.z").as_slice(), include_bytes!("../bases/go1.26.z").as_slice()]
            .map(Process::open)
    })
}

/// An input taken apart: which program, and what is changed in it.
pub fn changes(bytes: &[u8]) -> Option<(usize, Vec<Patch>)> {
    let (which, rest) = bytes.split_first()?;
    let patches = Vec::<Patch>::arbitrary_take_rest(Unstructured::new(rest)).ok()?;
    Some((usize::from(which % 2), patches))
}
