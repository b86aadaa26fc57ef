//! From the calls that make a type to the probes for them. It plans; the governor attaches.

use tracer_common::{
    control::{MAX_PROBES, PinControl},
    cookie::{AT_CALL, Cookie, Shape},
};

use super::{
    plan::{Planned, Refusal, keep_intact, place},
    target::Target,
};
use crate::{
    binary::x86::Emulates,
    control::pins::Call,
    goruntime::code::{pins, sites::ProbeSite},
    record::{Note, call_sites::CallSite, note::PinnedCall},
    units::ProcAddr,
};

/// Calls to pin, which are attached and let go together.
pub(super) struct Ask {
    /// The type they pass; absent where they pass none, or it is not known.
    pub(super) type_addr: Option<ProcAddr>,
    pub(super) calls: Vec<Call>,
}

/// What to attach for them.
pub(super) struct Pinned {
    pub(super) planned: Vec<Planned>,
    /// With what the kernel side is told of each.
    pub(super) calls: Vec<(PinnedCall, PinControl)>,
}

/// A call with its probes: where its object is taken, and the call itself.
struct Probed {
    site: CallSite,
    pin: pins::Pin,
    mean: u64,
}

/// Plans the probes of these calls, numbered from `first` on; all of them or none. Calls that cannot be probed are told in `notes`.
pub(super) fn plan(
    target: &Target,
    emulates: Emulates,
    ask: &Ask,
    first: usize,
    notes: &mut Vec<Note>,
) -> Result<Pinned, String> {
    let type_addr = ask.type_addr.map(|of| target.bias.to_image(of));
    let mut calls = Vec::new();
    for Call { returns_to, mean } in &ask.calls {
        let end = target.bias.to_image(*returns_to);
        match pins::pin(&target.image, end, type_addr, emulates) {
            Ok(pin) => {
                let site = CallSite { returns_to: *returns_to, callee: target.bias.to_proc(pin.callee) };
                calls.push(Probed { site, pin, mean: *mean });
            }
            Err(e) => notes.push(refused(Refusal { function: end.to_string(), why: e.to_string() })),
        }
    }
    // Where one call is the place behind another, nobody knows which of two probes there runs first.
    let starts: Vec<_> = calls.iter().map(|call| call.pin.call.address).collect();
    for call in &mut calls {
        call.pin.object.take_if(|object| !object.alone && starts.contains(&object.at.address));
    }
    let mut planned = Vec::new();
    let mut told = Vec::new();
    // Where objects come out is watched before any is chosen.
    for Probed { pin, .. } in &calls {
        let object = pin.object.iter().filter(|object| !object.alone);
        planned.extend(object.map(|object| plan_object(object, 0)));
    }
    for Probed { site, pin, mean } in &calls {
        planned.push(match &pin.object {
            Some(object) if object.alone => plan_object(object, AT_CALL),
            _ => plan_call(&pin.call),
        });
        told.push((*site, pin.size, if pin.object.is_some() { *mean } else { 0 }));
    }
    if first + planned.len() > MAX_PROBES as usize {
        return Err(format!("more than {MAX_PROBES} probes"));
    }
    let wanted = planned.len();
    let (planned, differing) = keep_intact(&target.memory, target.bias, planned, first);
    let why = differing.first().map(|refusal| refusal.why.clone());
    notes.extend(differing.into_iter().map(refused));
    if planned.len() < wanted {
        return Err(why.unwrap_or_else(|| "its code cannot be proven".to_owned()));
    }
    let calls_from = planned.len() - told.len();
    let type_word = ask.type_addr.map_or(0, |of| of.0);
    let calls = told.into_iter().zip(&planned[calls_from..]).map(|((site, size, mean), plan)| {
        let size = size.map_or(0, |size| size.0);
        let call = PinnedCall { type_addr: ask.type_addr, site, mean, probe: u32::from(plan.cookie.probe) };
        (
            call,
            PinControl {
                type_addr: type_word,
                size,
                mean,
                returns_to: site.returns_to.0,
                ..PinControl::default()
            },
        )
    });
    let calls = calls.collect();
    Ok(Pinned { planned, calls })
}

fn refused(Refusal { function, why }: Refusal) -> Note {
    Note::SiteRefused { function, why }
}

fn plan_call(site: &ProbeSite) -> Planned {
    let cookie = Cookie { shape: Shape::SampleBegin, flags: AT_CALL, slot: 0, probe: 0, place: 0 };
    Planned { site: site.clone(), cookie }
}

fn plan_object(object: &pins::Object, flags: u8) -> Planned {
    let pins::Object { at, place: of, alone: _ } = object;
    let cookie = Cookie { shape: at.shape, flags, slot: 0, probe: 0, place: place(*of) };
    Planned { site: at.clone(), cookie }
}
