//! From an image to the sites to attach: the hooks it has, a proven site for each, a cookie for each.

use tracer_common::{
    control::{
        AllocControl, CLASSES, CodeRange, LARGE_STEPS, MAX_PROBES, SMALL_STEPS, STACK_ENDS, SampleControl,
        TargetControl,
    },
    cookie::{CALLER_AT_SP, Cookie, IN_CALLEE, PLACE_RESULT, PLACE_STACK, Shape},
};

use super::setup::Events;
use crate::{
    binary::{flow::Place, x86::Emulates},
    goruntime::{
        code::{
            exits::{ExitSite, exit_sites},
            hooks::{HookSet, alloc_hooks, goroutine_hooks, map_growth_hooks, map_hooks, stack_ends},
            sites::{ProbeSite, probe_site},
        },
        image::GoImage,
        layout::{HEADER_ABOVE, HEADER_SIZE, Layout, MAX_SMALL, PAGE, TINY_SIZE},
        layouts::CLASS_TO_SIZE,
    },
    host::process::PidNamespace,
    memory::ReadAt,
    record::{Slot, note},
    units::{LoadBias, ProcAddr},
};

/// A site to attach, with the cookie it will carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    pub site: ProbeSite,
    pub cookie: Cookie,
}

/// A function that goes unprobed, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub function: String,
    pub why: String,
}

/// The sites for `events` in `image`. A function without a safe site is refused, the others stay.
pub fn plan_sites(
    image: &GoImage,
    slot: Slot,
    events: Events,
    emulates: Emulates,
) -> (Vec<Planned>, Vec<Refusal>) {
    let mut sets = Vec::new();
    if events.alloc {
        sets.push(alloc_hooks(image));
    }
    if events.map {
        sets.push(map_hooks(image));
    }
    if events.map_growth {
        sets.push(map_growth_hooks(image));
    }
    if events.goroutine {
        sets.push(goroutine_hooks(image));
    }
    let (mut planned, mut refused) = (Vec::new(), Vec::new());
    if events.sampled {
        sets.push(sampled_hooks(image, slot, emulates, &mut planned, &mut refused));
    }
    for function in sets.iter_mut().flat_map(|set| std::mem::take(&mut set.inlined)) {
        let why = "the compiler inlined copies of it, which no probe sees".to_owned();
        refused.push(Refusal { function, why });
    }
    for hook in sets.into_iter().flat_map(|set| set.hooks) {
        if planned.len() as u32 >= MAX_PROBES {
            refused.push(Refusal { function: hook.function, why: format!("more than {MAX_PROBES} probes") });
            continue;
        }
        match probe_site(image, &hook, emulates) {
            Ok(site) => {
                let cookie = Cookie {
                    shape: site.shape,
                    flags: hook.flags | if site.caller_at_sp { CALLER_AT_SP } else { 0 },
                    slot: slot.0,
                    probe: planned.len() as u16,
                    place: 0,
                };
                planned.push(Planned { site, cookie });
            }
            Err(e) => refused.push(Refusal { function: hook.function, why: e.to_string() }),
        }
    }
    (planned, refused)
}

/// The allocator's functions of which every object is seen again where it is handed out; those exits are planned, and
/// attached before the entries: an allocation must not be chosen whose exit is not watched yet.
fn sampled_hooks(
    image: &GoImage,
    slot: Slot,
    emulates: Emulates,
    planned: &mut Vec<Planned>,
    refused: &mut Vec<Refusal>,
) -> HookSet {
    let mut set = alloc_hooks(image);
    let mut exits: Vec<ExitSite> = Vec::new();
    set.hooks.retain_mut(|hook| {
        hook.shape = Shape::SampleBegin;
        let mut found = match exit_sites(image, &hook.function, emulates) {
            Ok(found) => found,
            Err(e) => {
                refused.push(Refusal { function: hook.function.clone(), why: e.to_string() });
                return false;
            }
        };
        let clash = |e: &ExitSite| exits.iter().any(|x| x.address == e.address && x != e);
        if let Some(clash) = found.iter().find(|e| clash(e)) {
            let why = format!("{} is both called by it and an allocator of its own", clash.function);
            refused.push(Refusal { function: hook.function.clone(), why });
            return false;
        }
        found.retain(|e| !exits.contains(e));
        exits.extend(found);
        true
    });
    for exit in exits {
        let ExitSite { address, function, file_offset, offset, instruction, bytes, place, in_callee } = exit;
        let place = self::place(place);
        let shape = Shape::SampleEnd;
        let flags = if in_callee { IN_CALLEE } else { 0 };
        let cookie = Cookie { shape, flags, slot: slot.0, probe: planned.len() as u16, place };
        let site = ProbeSite {
            function,
            shape,
            address,
            file_offset,
            offset,
            instruction,
            bytes,
            caller_at_sp: false,
        };
        planned.push(Planned { site, cookie });
    }
    set
}

/// A place as a cookie says it.
pub(super) fn place(of: Place) -> u16 {
    match of {
        Place::Register(_) => PLACE_RESULT,
        Place::Stack(at) => PLACE_STACK | (at / 8) as u16,
    }
}

/// Keeps the sites whose instruction in memory is the file's, and numbers their probes from `first` on; a breakpoint there means
/// another tool.
pub(super) fn keep_intact(
    memory: &dyn ReadAt<ProcAddr>,
    bias: LoadBias,
    planned: Vec<Planned>,
    first: usize,
) -> (Vec<Planned>, Vec<Refusal>) {
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    for mut plan in planned {
        let mut found = vec![0; plan.site.bytes.len()];
        let why = match memory.read(bias.to_proc(plan.site.address), &mut found) {
            Ok(()) if found == plan.site.bytes => {
                plan.cookie.probe = (first + kept.len()) as u16;
                kept.push(plan);
                continue;
            }
            Ok(()) if found.first() == Some(&INT3) || found.first() == Some(&CALL) => {
                "another tool has a probe there; end it and start again".to_owned()
            }
            Ok(()) => "its code in memory differs from the file".to_owned(),
            Err(e) => e.to_string(),
        };
        refused.push(Refusal { function: plan.site.function, why });
    }
    (kept, refused)
}

/// Those of `planned` whose instruction in memory still is the file's after attaching: the probe did not take.
pub(super) fn not_taken(memory: &dyn ReadAt<ProcAddr>, bias: LoadBias, planned: &[Planned]) -> Vec<Refusal> {
    let mut missing = Vec::new();
    for Planned { site, cookie: _ } in planned {
        let why = match memory.read_u8(bias.to_proc(site.address)) {
            Ok(byte) if site.bytes.first() != Some(&byte) => continue,
            Ok(_) => "the probe was attached but is not in memory".to_owned(),
            Err(e) => e.to_string(),
        };
        missing.push(Refusal { function: site.function.clone(), why });
    }
    missing
}

/// What the kernel writes over a probed instruction: int3, or (from 6.18 on, over a 5-byte nop) a call.
const INT3: u8 = 0xcc;
const CALL: u8 = 0xe8;

/// The probes as records name them.
pub(super) fn probe_notes(planned: &[Planned]) -> Vec<note::Probe> {
    let probe = |Planned { site, cookie: _ }: &Planned| note::Probe {
        function: site.function.clone(),
        address: site.address,
        file_offset: site.file_offset,
        offset: site.offset,
        instruction: site.instruction.name().into(),
    };
    planned.iter().map(probe).collect()
}

/// The kernel side's control row for a target. `bias` is absent while the program is not loaded yet.
pub(super) fn control(
    layout: &Layout,
    namespace: PidNamespace,
    image: &GoImage,
    bias: Option<LoadBias>,
    sample: SampleControl,
) -> TargetControl {
    let headers = layout.has_malloc_headers();
    // With malloc headers, what would not fit a class together with its header is large, whatever its type
    // (runtime/malloc.go, mallocgc: size <= maxSmallSize-mallocHeaderSize).
    let max_small = if headers { MAX_SMALL - HEADER_SIZE } else { MAX_SMALL };
    TargetControl {
        tgid: namespace.pid.0,
        epoch: 1,
        pidns_dev: namespace.dev,
        pidns_ino: namespace.inode,
        g_gopc: layout.g_gopc,
        g_stack_hi: layout.g_stack_hi,
        stack_ends: bias.map(|bias| ends(image, bias)).unwrap_or_default(),
        alloc: AllocControl {
            tiny_below: TINY_SIZE as u32,
            max_small: max_small as u32,
            header_above: if headers { HEADER_ABOVE as u32 } else { u32::MAX },
            header_bytes: HEADER_SIZE as u32,
            type_ptr_bytes: TYPE_PTR_BYTES,
            page_bytes: PAGE as u32,
            class_of_step8: std::array::from_fn(|step| class_of(step * 8)),
            class_of_step128: std::array::from_fn(|step| class_of(1024 + step * 128)),
            padding: [0; 6],
        },
        sample,
    }
}

fn ends(image: &GoImage, bias: LoadBias) -> [CodeRange; STACK_ENDS] {
    let mut ranges = [CodeRange::default(); STACK_ENDS];
    for (range, function) in ranges.iter_mut().zip(stack_ends(image)) {
        // A return address lies behind its call: at the end of the range where the call is the last instruction.
        let bytes = function.end.0.saturating_sub(function.entry.0).saturating_add(1);
        *range = CodeRange { from: bias.to_proc(function.entry).0, bytes };
    }
    ranges
}

/// Offset of PtrBytes in a type descriptor (internal/abi/type.go, Type; the same since 1.19).
const TYPE_PTR_BYTES: u32 = 8;
const _: () = assert!(CLASS_TO_SIZE.len() == CLASSES && SMALL_STEPS == 129 && LARGE_STEPS == 249);

/// The smallest class that holds `size` bytes.
fn class_of(size: usize) -> u8 {
    let fits = |class: &usize| usize::from(CLASS_TO_SIZE[*class]) >= size;
    (1..CLASSES).find(fits).unwrap_or(0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Flat;
    use crate::{
        binary::x86::SiteKind,
        units::{FileOffset, ImageAddr},
    };

    #[test]
    fn a_site_that_does_not_show_its_probe_is_named() {
        let planned = |function: &str, address| {
            let site = ProbeSite {
                function: function.to_owned(),
                shape: Shape::Alloc,
                address: ImageAddr(address),
                file_offset: FileOffset(0),
                offset: 0,
                instruction: SiteKind::Push,
                bytes: vec![0x55],
                caller_at_sp: true,
            };
            let cookie = Cookie { shape: Shape::Alloc, flags: 0, slot: 0, probe: 0, place: 0 };
            Planned { site, cookie }
        };
        // The second was attached and is not there, the third is where nothing can be read.
        let all = [planned("taken", 0x1000), planned("other", 0x1001), planned("nowhere", 0x9000)];
        let memory = Flat { base: 0x1000, bytes: &[INT3, 0x55] };
        let missing = not_taken(&memory, LoadBias(0), &all);
        let functions: Vec<&str> = missing.iter().map(|refusal| refusal.function.as_str()).collect();
        assert_eq!(functions, ["other", "nowhere"]);
    }

    #[test]
    fn sizes_fall_into_the_runtimes_classes() {
        // runtime/sizeclasses.go's own comment table.
        for (size, class) in [(1, 1), (8, 1), (9, 2), (16, 2), (17, 3), (1024, 32), (1025, 33), (32768, 67)] {
            assert_eq!(class_of(size), class, "{size}");
        }
    }
}
