//! A Go process, opened: the file it runs, its names, where it was loaded, its runtime state checked.

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use super::clock;
use crate::{
    binary::file::FileBytes,
    goruntime::{
        code::recipes::RuntimeVars,
        error::GoError,
        image::GoImage,
        layout::Layout,
        state::{RuntimeState, StateError, StateVars},
    },
    host::{
        HostError,
        memory::ProcessMemory,
        process::{Process, Segment},
    },
    units::{Bytes, LoadBias, Pid},
};

/// Why a process cannot be a target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("{who}: {source}")]
    Go { who: String, source: GoError },
    #[error("{who}: {source}")]
    State { who: String, source: StateError },
    #[error("{who}: cannot read the executable: {source}")]
    File { who: String, source: std::io::Error },
}

/// A process that can be read.
pub struct Target {
    pub process: Process,
    pub memory: ProcessMemory,
    pub image: Arc<GoImage>,
    pub bias: LoadBias,
    pub layout: &'static Layout,
    pub state: RuntimeState,
}

impl Target {
    /// Opens a running process.
    pub fn open(pid: Pid) -> Result<Self, TargetError> {
        let process = Process::open(pid)?;
        let image = Arc::new(open_image(&format!("process {pid}"), process.exe())?);
        Self::of(process, image, Duration::ZERO)
    }

    /// The process `process` that runs `image`; a runtime that is still starting is given `patience`.
    pub(super) fn of(process: Process, image: Arc<GoImage>, patience: Duration) -> Result<Self, TargetError> {
        let who = || format!("process {}", process.pid());
        let go = |source| TargetError::Go { who: who(), source };
        let layout = layout_of(&image).map_err(go)?;
        let vars = RuntimeVars::find(&image).map_err(go)?;
        let segments: Vec<Segment> = image
            .elf()
            .segments()
            .iter()
            .map(|s| Segment { vaddr: s.start, offset: s.offset, file_size: Bytes(s.file_size) })
            .collect();
        let bias = process.load_bias(&segments)?;
        let memory = process.memory();
        // The reader asks again and says it in the report when it cannot be known.
        drop(memory.look_for_swap());
        let at = |addr| bias.to_proc(addr);
        let vars = StateVars {
            memstats: at(vars.memstats),
            gc_controller: at(vars.gc_controller),
            work: at(vars.work),
            allgs: at(vars.allgs),
            allglen: at(vars.allglen),
            allgptr: at(vars.allgptr),
            mheap: at(vars.mheap),
            wait_reason_strings: vars.wait_reason_strings.map(at),
        };
        let began = Instant::now();
        let state = loop {
            match RuntimeState::open(&memory, layout, vars, clock::unix_ns()) {
                Ok(state) => break state,
                // Between exec and the runtime's own set-up every check may fail.
                Err(_) if began.elapsed() < patience => {
                    process.still_same()?;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(source) => {
                    process.still_same()?;
                    return Err(TargetError::State { who: who(), source });
                }
            }
        };
        process.still_same()?;
        Ok(Self { process, memory, image, bias, layout, state })
    }
}

/// The layout row for the image's Go, or a refusal that names the range.
pub(super) fn layout_of(image: &GoImage) -> Result<&'static Layout, GoError> {
    Layout::for_minor(image.version().minor).map_err(|_unsupported| GoError::Unsupported {
        found: image.build_info().version_text.clone(),
        range: crate::goruntime::version::SUPPORTED,
    })
}

/// Opens the names of an executable file; `who` begins the error.
pub(super) fn open_image(who: &str, file: &File) -> Result<GoImage, TargetError> {
    let unreadable = |source| TargetError::File { who: who.to_owned(), source };
    let file = file.try_clone().map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    GoImage::open(Box::new(FileBytes::new(file)), len)
        .map_err(|source| TargetError::Go { who: who.to_owned(), source })
}
