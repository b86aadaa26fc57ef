//! The plugins of one target as far as they were found, shared by the threads: one reads, the others look names up.
//!
//! Only the reader adds, at the end; nobody removes, as the runtime unloads nothing.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use super::{names::Lookup, target::Target};
use crate::{
    goruntime::{
        error::GoError,
        modules::{MAX_MODULES, Module},
        names::{
            inlining::{Frame, PcKind},
            types::TypeInfo,
        },
    },
    record::Note,
    units::ImageAddr,
};

/// What was found so far.
#[derive(Default)]
pub struct Plugins {
    found: RwLock<Vec<Arc<Module>>>,
    /// Its list was not followed to the end, and this was said.
    cut: AtomicBool,
}

impl Plugins {
    pub fn all(&self) -> Vec<Arc<Module>> {
        self.found.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn len(&self) -> usize {
        self.found.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Follows the list from where it ended last time: one word is read where nothing was loaded. `probed` says that
    /// the program's own file has probes. What is to be told is returned, failures included.
    pub(super) fn look(&self, target: &Target, probed: bool) -> Vec<Note> {
        let mut notes = Vec::new();
        loop {
            let known = self.all();
            if known.len() >= MAX_MODULES {
                if !self.cut.swap(true, Ordering::Relaxed) {
                    let why = format!("only the first {MAX_MODULES} are looked at");
                    notes.push(Note::ReadingFailed { what: "plugins".into(), why });
                }
                return notes;
            }
            let link = known.last().map_or(target.image.module().next_field, |last| last.data.next_field);
            match Module::read(&target.memory, target.bias, target.layout, link) {
                Ok(None) => return notes,
                Ok(Some(module)) if known.iter().any(|m| m.data.address == module.data.address) => {
                    let at = module.data.address.0;
                    let why = GoError::Broken { what: "the list of plugins leads back into itself", at };
                    notes.push(Note::ReadingFailed { what: "plugins".into(), why: why.to_string() });
                    return notes;
                }
                Ok(Some(module)) => {
                    if probed {
                        notes.push(unprobed(target, &module));
                    }
                    self.found.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(module));
                }
                Err(e) => {
                    notes.push(Note::ReadingFailed { what: "plugins".into(), why: e.to_string() });
                    return notes;
                }
            }
        }
    }
}

/// A plugin brings its own copy of the allocator, which its code calls directly (cmd/link/internal/ld/symtab.go,
/// putelfsym: calls stay within a module): probes in the program's file see nothing of it.
fn unprobed(target: &Target, module: &Module) -> Note {
    let at = target.bias.to_proc(module.data.text.start);
    let path = target.process.file_at(at);
    let path = path.map_or_else(|| at.to_string(), |path| path.display().to_string());
    Note::SiteRefused {
        function: format!("the allocator of the plugin {path}"),
        why: "a plugin calls its own copy of the runtime's functions; what its code allocates, writes to maps and \
              starts is not counted"
            .to_owned(),
    }
}

impl Lookup for Module {
    fn frames_at(&self, pc: ImageAddr, kind: PcKind) -> Vec<Frame> {
        self.names.frames_at(pc, kind)
    }
    fn is_entry(&self, pc: ImageAddr) -> bool {
        self.names.is_entry(pc)
    }
    fn type_info(&self, at: ImageAddr) -> Result<TypeInfo, GoError> {
        self.names.type_info(at)
    }
    fn main_module(&self) -> Option<&str> {
        None
    }
}

/// Where names of plugins are looked up behind the program's own.
pub enum More {
    /// Those of a running process, which may become more.
    Live(Arc<Plugins>),
    /// Those that a recording kept.
    Kept(Vec<Arc<dyn Lookup>>),
}

impl More {
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Live(plugins) => plugins.len(),
            Self::Kept(all) => all.len(),
        }
    }

    pub(super) fn find<T>(&self, mut found: impl FnMut(&dyn Lookup) -> Option<T>) -> Option<T> {
        match self {
            Self::Live(plugins) => plugins.all().iter().find_map(|module| found(&**module)),
            Self::Kept(all) => all.iter().find_map(|book| found(&**book)),
        }
    }
}

/// The ranges of Go's code: the program's and that of its plugins.
pub(super) fn texts(target: &Target, plugins: &[Arc<Module>]) -> Vec<crate::goruntime::moduledata::Range> {
    std::iter::once(target.image.module().text).chain(plugins.iter().map(|module| module.data.text)).collect()
}
