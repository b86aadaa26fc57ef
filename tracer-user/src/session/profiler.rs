//! Whether the runtime's own memory profile can be used, and the sentence that says so.

use super::{error::SessionError, setup::Sampler, target::Target};
use crate::{
    analyze::figures,
    goruntime::state::profile::{self, ProfileVars},
};

/// What became of the question.
pub(super) enum Chosen {
    /// It is on, with this rate.
    Works { vars: ProfileVars, rate: u64 },
    /// It cannot be used: why not.
    Not(String),
    /// The sampler does not ask for it.
    Unasked,
}

/// Decides. An error where nothing else will do.
pub(super) fn choose(sampler: Sampler, target: &Target) -> Result<Chosen, SessionError> {
    match sampler {
        Sampler::None | Sampler::All | Sampler::Sampled => Ok(Chosen::Unasked),
        Sampler::Auto => Ok(find(target)),
        Sampler::Runtime => match find(target) {
            Chosen::Not(why) => Err(SessionError::NoProfile(format!(
                "{why}; use --sampler sampled or all, which probe allocations"
            ))),
            found => Ok(found),
        },
    }
}

fn find(target: &Target) -> Chosen {
    let Some(vars) = target.profile else {
        return Chosen::Not("where this program's memory profile is was not found".to_owned());
    };
    match profile::rate(&target.memory, target.layout, &vars) {
        Ok(0) if target.image.links_memory_profiler() => {
            Chosen::Not("the program turned its memory profile off (MemProfileRate is 0)".to_owned())
        }
        Ok(0) => Chosen::Not(
            "Go's memory profile is off, because nothing in the program uses it (as net/http/pprof does)"
                .to_owned(),
        ),
        Ok(rate) => Chosen::Works { vars, rate },
        Err(e) => Chosen::Not(e.to_string()),
    }
}

impl Chosen {
    /// Completes the reason why figures come from where they come from.
    pub(super) fn explain(self, reason: String, pins: bool) -> (Option<ProfileVars>, String) {
        match self {
            Chosen::Works { vars, rate } => {
                let how = if rate == 1 {
                    "every allocation".to_owned()
                } else {
                    format!("one sample per {} allocated", figures::bytes(rate))
                };
                (Some(vars), format!("{reason}; sites come from Go's own memory profile, {how}"))
            }
            Chosen::Not(why) if pins => (
                None,
                format!(
                    "{reason}; the calls in the program's code that make what grows are found, by its type or by probes on the allocator for moments, and probed ({why})"
                ),
            ),
            Chosen::Not(why) => {
                (None, format!("{reason}; allocation sites need --sampler sampled or all ({why})"))
            }
            Chosen::Unasked => (None, reason),
        }
    }
}
