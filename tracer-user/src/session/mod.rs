//! Wires everything: opens the target, attaches, runs the loop, drains, reads, publishes reports.
//!
//! The only room that knows both what touches a target and what thinks. It holds no rule and no Go knowledge;
//! stages are plain functions that it calls in order. Nothing typed is parsed here: [`Setup`] holds what was
//! meant.

mod account;
mod call_sites;
mod clock;
mod drain;
mod error;
mod facts;
mod fence;
mod follower;
mod governor;
mod heap;
mod hit_costs;
mod inbox;
mod maps;
mod names;
mod once;
mod open;
mod operator;
mod pace;
mod pinner;
mod pinning;
mod placer;
mod plan;
mod plugins;
mod privileges;
mod prober;
mod profiler;
mod program;
mod reader;
mod recording;
mod replay;
mod room;
mod run;
mod setup;
mod signals;
mod target;
mod watched;

pub use error::SessionError;
pub use names::ImageNames;
pub use once::read_once;
pub use plan::{Planned, Refusal, plan_sites};
pub use plugins::{More, Plugins};
pub use program::Program;
pub use reader::Once;
pub use replay::{Replayed, replay};
pub use run::{Ended, run};
pub use setup::{Events, Output, Sampler, Setup, Subject, Until, Which};
pub use target::{Target, TargetError};
