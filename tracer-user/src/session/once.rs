//! One reading of everything that needs no probe and no time: a report without a session.

use std::{sync::Arc, time::SystemTime};

use super::{
    clock, error::SessionError, facts, names::ImageNames, open::Opened, reader, setup::Sampler,
    target::Target,
};
use crate::{
    aggregate::Ledger,
    analyze::Judgement,
    kernel::capability::Capabilities,
    record::Slot,
    report::{self, Report},
    symbolize::Symbolizer,
    units::Pid,
};

/// Reads process `pid` once.
pub fn read_once(pid: Pid) -> Result<Report, SessionError> {
    let target = Arc::new(Target::open(pid)?);
    let mut ledger = Ledger::new(Slot(0), clock::now());
    for record in reader::once(&target)? {
        ledger.apply(&record);
    }
    let names = ImageNames { image: Arc::clone(&target.image), bias: target.bias };
    let evidence = Symbolizer::new().evidence(&ledger, &names);
    let opened = Opened {
        target,
        probes: None,
        refused: Vec::new(),
        not_taken: Vec::new(),
        reason: "one reading".to_owned(),
        profile: None,
        child: None,
    };
    let capabilities = Capabilities::read();
    let facts = facts::facts(&opened, Sampler::None, SystemTime::now(), &capabilities, None);
    Ok(report::report(&facts, &evidence, &Judgement::default()))
}
