//! One reading of what needs no probe and no time: a report without a session.

use std::{sync::Arc, time::SystemTime};

use super::{
    clock,
    error::SessionError,
    facts,
    names::ImageNames,
    open::Opened,
    plugins::More,
    privileges, profiler,
    reader::{self, Once},
    setup::{Events, Sampler},
    target::Target,
};
use crate::{
    aggregate::Ledger,
    goruntime::GoImage,
    kernel::{capability::Capabilities, priority::wait_for_others},
    record::{Body, Record, Slot},
    report::Report,
    symbolize::Symbolizer,
    units::Pid,
};

/// Reads process `pid` once.
pub fn read_once(pid: Pid, about: Once) -> Result<Report, SessionError> {
    wait_for_others();
    privileges::to_open_once();
    let target = Arc::new(Target::open(pid)?);
    privileges::to_read();
    let mut ledger = Ledger::new(Slot(0), clock::now());
    if let Some(note) = target.caveat() {
        ledger.apply(Record { slot: Slot(0), time: clock::now(), body: Body::Note(note) });
    }
    let reason = "one reading".to_owned();
    let (profile, reason) = match about {
        Once::Heap => profiler::choose(Sampler::Auto, &target)?.explain(reason, false),
        Once::Goroutines => (None, reason),
    };
    for record in reader::once(&target, about, profile)? {
        ledger.apply(record);
    }
    let image: Arc<GoImage> = Arc::clone(&target.image);
    let names = ImageNames { image, bias: target.bias, more: More::Live(Arc::clone(&target.plugins)) };
    let opened = Opened {
        target,
        probes: None,
        refused: Vec::new(),
        not_taken: Vec::new(),
        reason,
        profile: None,
        child: None,
    };
    let capabilities = Capabilities::read();
    let opening = facts::opening(&opened, Sampler::None, Events::default(), SystemTime::now(), &capabilities);
    for note in opening.into_iter().chain(facts::now(&opened, None)) {
        // What is said of the reading was true when it ended: no time passes.
        ledger.apply(Record { slot: Slot(0), time: ledger.now(), body: Body::Note(note) });
    }
    let report = facts::report(&ledger, &mut Symbolizer::new(), &names, false);
    Ok(report.expect("the session has said whose it is"))
}
