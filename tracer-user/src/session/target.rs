//! A Go process, opened: the file it runs, its names, where it was loaded, its runtime state checked.

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{clock, plugins::Plugins};
use crate::{
    binary::{BinaryError, elf::Elf, file::FileBytes},
    goruntime::{
        buildinfo::BuildInfo,
        code::recipes::RuntimeVars,
        error::GoError,
        image::GoImage,
        layout::{Basis, Known, Layout},
        state::{RuntimeState, StateError, StateVars, profile::ProfileVars},
    },
    host::{
        HostError,
        memory::ProcessMemory,
        process::{Process, Segment},
    },
    record::note::Note,
    units::{Bytes, LoadBias, Pid, ProcAddr},
};

/// Why a process cannot be a target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("{who}: {source}{}", advice(source))]
    Go { who: String, source: GoError },
    #[error("{who}: {source}")]
    State { who: String, source: StateError },
    #[error("{who}: cannot read the executable: {source}")]
    File { who: String, source: std::io::Error },
}

/// What to do about it, where the error itself does not say.
fn advice(e: &GoError) -> &'static str {
    match e {
        GoError::NotGo { why } if why.contains(';') => "",
        GoError::NotGo { .. } => "; `tracer list` shows the Go processes that can be traced",
        GoError::Binary(BinaryError::NotElf) => "; give the Go program itself, not a script that runs it",
        GoError::Newer { .. } => "; use a newer tracer",
        GoError::Unsupported { .. } => "; rebuild the program with a Go of that range",
        GoError::Binary(BinaryError::Refused { .. }) => "; build it for amd64",
        GoError::Broken { .. } | GoError::Binary(BinaryError::Damaged { .. } | BinaryError::Read(_)) => {
            "; build or install the program again"
        }
        GoError::Layout { .. } => "; report this with the output of `go version -m` on the program",
        GoError::NoSite { .. } => "; use --sampler none, which reads memory only",
        GoError::Read(_) => "; check that the process still runs and may be read",
    }
}

/// A thread that loses its processor between two steps of a change leaves what it changes apart for a time slice or a few.
const SETTLES_WITHIN: Duration = Duration::from_millis(200);

/// A process that can be read.
pub struct Target {
    pub process: Process,
    pub memory: ProcessMemory,
    pub image: Arc<GoImage>,
    pub bias: LoadBias,
    pub layout: &'static Layout,
    pub state: RuntimeState,
    /// The memory profiler's variables; absent where they were not found.
    pub profile: Option<ProfileVars>,
    pub plugins: Arc<Plugins>,
    /// Not 0 while the collector marks: `runtime.gcBlackenEnabled`, 32 bits.
    pub marking: ProcAddr,
}

impl Target {
    /// Opens a running process.
    pub fn open(pid: Pid) -> Result<Self, TargetError> {
        Self::open_knowing(pid, Known::all())
    }

    /// The same as a tracer with these layouts does it.
    pub fn open_knowing(pid: Pid, known: Known) -> Result<Self, TargetError> {
        let process = Process::open(pid)?;
        let who = format!("process {pid}");
        let image = open_image_knowing(&who, process.exe(), known).map_err(|e| match e {
            TargetError::Go { source: GoError::NotGo { why }, .. } => {
                let why = go_library(&process).unwrap_or(why);
                TargetError::Go { who, source: GoError::NotGo { why } }
            }
            e => e,
        })?;
        let image = Arc::new(image);
        Self::of(process, image, SETTLES_WITHIN)
    }

    /// The process `process` that runs `image`; a runtime that is still starting, or in
    /// mid-change, is given `patience`.
    pub(super) fn of(process: Process, image: Arc<GoImage>, patience: Duration) -> Result<Self, TargetError> {
        let who = || format!("process {}", process.pid());
        let go = |source| TargetError::Go { who: who(), source };
        let layout = image.layout();
        let judge = |error| go(image.basis().judge(image.known(), image.version(), error));
        let vars = RuntimeVars::find(&image).map_err(judge)?;
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
        let profile = vars.m_prof_cycle.map(|cycle| ProfileVars {
            mbuckets: at(vars.mbuckets),
            cycle: at(cycle),
            rate: at(vars.mem_profile_rate),
        });
        let marking = at(vars.gc_blacken_enabled);
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
        let text = at(image.module().text.start)..at(image.module().text.end);
        let open = || {
            let state = RuntimeState::open(&memory, layout, vars, clock::unix_ns())?;
            if image.basis() != Basis::Table {
                state.prove(&memory, text.clone())?;
            }
            Ok(state)
        };
        let state = loop {
            match open() {
                Ok(state) => break state,
                // Between exec and the runtime's own set-up every check may fail.
                Err(_) if began.elapsed() < patience => {
                    process.still_same()?;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(source) => {
                    process.still_same()?;
                    if image.basis() != Basis::Table && matches!(source, StateError::Layout { .. }) {
                        return Err(go(GoError::newer(image.version(), image.known(), &source.to_string())));
                    }
                    return Err(TargetError::State { who: who(), source });
                }
            }
        };
        process.still_same()?;
        Ok(Self { process, memory, image, bias, layout, state, profile, plugins: Arc::default(), marking })
    }

    /// What the report must say of how the runtime is read, where its version is newer than the tracer.
    pub fn caveat(&self) -> Option<Note> {
        let how = self.image.basis().caveat()?;
        let version = self.image.version();
        let known = self.image.known().range();
        Some(Note::NewerGo {
            how: format!("{version} is newer than this tracer, which knows {known}: {how}"),
        })
    }
}

/// A program that is not Go may have loaded Go: then that is what was meant, and it is named.
fn go_library(process: &Process) -> Option<String> {
    let has_go = |file: File| {
        let len = file.metadata().ok()?.len();
        let bytes = FileBytes::new(file);
        let elf = Elf::read(&bytes, len).ok()?;
        elf.section(".go.buildinfo")?;
        BuildInfo::find(&elf, &bytes).ok()?
    };
    let (path, _) =
        process.libraries().into_iter().find_map(|(path, file)| has_go(file).map(|info| (path, info)))?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Some(format!(
        "it loaded Go inside a library ({name}), which cannot be traced; trace a program whose main function is Go"
    ))
}

/// Opens the names of an executable file; `who` begins the error.
pub(super) fn open_image(who: &str, file: &File) -> Result<GoImage, TargetError> {
    open_image_knowing(who, file, Known::all())
}

fn open_image_knowing(who: &str, file: &File, known: Known) -> Result<GoImage, TargetError> {
    let unreadable = |source| TargetError::File { who: who.to_owned(), source };
    let file = file.try_clone().map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    GoImage::open_knowing(Box::new(FileBytes::new(file)), len, known)
        .map_err(|source| TargetError::Go { who: who.to_owned(), source })
}
