//! A recorded session through every later stage: the same records in the same order give the same report. Asks no
//! host, no kernel and no clock.

use std::{io::Read, sync::Arc};

use super::{
    error::SessionError,
    facts,
    names::{ImageNames, Lookup},
    plugins::More,
};
use crate::{
    aggregate::Ledger,
    analyze::figures,
    capture::{self, End, Item, Sections, sections::Pieces},
    goruntime::{
        error::GoError,
        modules::MAX_MODULES,
        names::{
            book::NameBook,
            inlining::{Frame, PcKind},
            types::TypeInfo,
        },
    },
    record::{Body, Note, Record, Slot, image::Image},
    report::Report,
    symbolize::Symbolizer,
    units::{ImageAddr, Pid},
};

/// What a recording tells.
#[derive(Debug)]
pub struct Replayed {
    pub report: Report,
    pub pid: Pid,
    pub records: u64,
}

/// Replays a recording.
pub fn replay(from: impl Read) -> Result<Replayed, SessionError> {
    let mut ledger: Option<Ledger> = None;
    let mut images: Vec<Image> = Vec::new();
    let mut pieces = Pieces::default();
    let end = capture::read(from, |item| match item {
        // The program's own comes first, its plugins behind it.
        Item::Image(Slot(0), found) if images.len() <= MAX_MODULES => images.push(found),
        Item::Piece(Slot(0), at, bytes) => pieces.add(at, bytes),
        Item::Image(..) | Item::Piece(..) => {}
        Item::Record(record) => {
            ledger.get_or_insert_with(|| Ledger::new(Slot(0), record.time)).apply(record);
        }
    })?;
    let lacks_names = pieces.cut();
    let ledger = ledger.as_mut().ok_or(SessionError::NothingRecorded { offset: end.offset })?;
    for why in lacking(&end) {
        cut(ledger, why.clone());
    }
    let sections = Arc::new(pieces.sections());
    let mut images = images.into_iter();
    let names: Arc<dyn Lookup> = match images.next().map(|image| book(&image, &sections)) {
        Some(Ok(book)) if !lacks_names => Arc::new(book),
        _ => {
            cut(ledger, "the recording lacks the names of its program; addresses stand for them".to_owned());
            Arc::new(Nameless)
        }
    };
    let (plugins, lacking) = plugins(images, &sections);
    if lacking > 0 {
        let plugins = figures::counted(lacking as u64, "plugin");
        cut(ledger, format!("the recording lacks the names of {plugins}; addresses stand for them"));
    }
    let said = ledger.session();
    let nothing = || SessionError::NothingRecorded { offset: end.offset };
    let subject = said.subject().ok_or_else(nothing)?;
    let pid = Pid(subject.pid);
    let names = ImageNames { image: names, bias: subject.bias, more: More::Kept(plugins) };
    let report = facts::report(ledger, &mut Symbolizer::new(), &names, true).ok_or_else(nothing)?;
    Ok(Replayed { report, pid, records: end.records })
}

fn book(image: &Image, sections: &Arc<Sections>) -> Result<NameBook, GoError> {
    NameBook::open(image, Box::new(Arc::clone(sections)))
}

/// The names of plugins, and how many of them have none.
fn plugins(images: impl Iterator<Item = Image>, sections: &Arc<Sections>) -> (Vec<Arc<dyn Lookup>>, usize) {
    let mut found: Vec<Arc<dyn Lookup>> = Vec::new();
    let (mut lacking, mut left) = (0, MAX_PLUGIN_TABLES);
    for image in images {
        let book = left.checked_sub(image.functions_len).and_then(|rest| {
            left = rest;
            book(&image, sections).ok()
        });
        match book {
            Some(book) => found.push(Arc::new(book)),
            None => lacking += 1,
        }
    }
    (found, lacking)
}

/// Function tables of all plugins together: each is copied once more, and a recording may say what it likes.
const MAX_PLUGIN_TABLES: u64 = 256 << 20;

/// Believes that the recording lacks something.
fn cut(ledger: &mut Ledger, why: String) {
    let time = ledger.now();
    ledger.apply(Record { slot: Slot(0), time, body: Body::Note(Note::RecordingCut { why }) });
}

/// What a recording says that is not in it, or shows.
fn lacking(end: &End) -> Vec<String> {
    let mut all = Vec::new();
    match end.closed {
        None => all.push(format!("the recording ends early, behind offset {}", end.offset)),
        Some(closed) if closed.unrecorded > 0 => {
            all.push(format!("{} records were not kept while recording", closed.unrecorded));
        }
        Some(closed) if closed.records != end.records => {
            all.push(format!("{} of {} records are in the recording", end.records, closed.records));
        }
        Some(_) => {}
    }
    if end.unknown > 0 {
        all.push(format!(
            "{} records are of a newer tracer ({}) and were passed over",
            end.unknown, end.version
        ));
    }
    all
}

/// The names of an image whose name sections are not there.
struct Nameless;

impl Lookup for Nameless {
    fn frames_at(&self, _: ImageAddr, _: PcKind) -> Vec<Frame> {
        Vec::new()
    }
    fn is_entry(&self, _: ImageAddr) -> bool {
        false
    }
    fn type_info(&self, at: ImageAddr) -> Result<TypeInfo, GoError> {
        Err(GoError::Broken { what: "no type descriptors", at: at.0 })
    }
    fn main_module(&self) -> Option<&str> {
        None
    }
}
