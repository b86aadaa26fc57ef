//! `cargo xtask bench [--check] [--quick]`: what tracer costs and how long one waits, measured, as a page and against bounds.
//!
//! Apart from the tests because times belong to a machine: no test asserts one. It ends only processes it started.

mod census;
mod compare;
mod default;
mod goroutines;
mod heart;
mod idle;
mod machine;
mod memory;
mod overhead;
mod pinned;
mod probes;
mod replay;
mod sessions;
mod statistics;
mod table;
mod target;
mod toggles;
mod tools;
mod work;

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::command::is_root;
use crate::toolchains::{self, PINS, Toolchain};
use crate::{apt, command, demo, project};
use machine::Machine;
use table::Row;

/// The page, from the root of the checkout.
const PAGE: &str = "docs/benchmarks.md";

/// How often each thing is done.
#[derive(Clone, Copy, Debug)]
struct Effort {
    overhead_rounds: usize,
    idle_toggles: usize,
    /// Of each target.
    default_toggles: usize,
    /// Sessions on a type that leaks.
    pinned: usize,
    /// Rounds of all tools on all targets.
    compared: usize,
    /// Rounds in which probes come and go.
    comings: usize,
    censuses: usize,
    /// Rounds of heartbeats: half a minute each in a session, some four seconds over and over.
    beats: heart::Rounds,
    sessions: usize,
    session: Duration,
    replays: usize,
}

const FULL: Effort = Effort {
    overhead_rounds: 20,
    idle_toggles: 640,
    default_toggles: 480,
    pinned: 60,
    compared: 12,
    comings: 24,
    censuses: 40,
    beats: heart::Rounds { session: 16, short: 24 },
    sessions: 4,
    session: Duration::from_secs(2),
    replays: 8,
};
/// To see that it runs; its intervals are wide and its bounds say little.
const QUICK: Effort = Effort {
    overhead_rounds: 2,
    idle_toggles: 8,
    default_toggles: 12,
    pinned: 6,
    compared: 2,
    comings: 6,
    censuses: 3,
    beats: heart::Rounds { session: 6, short: 6 },
    sessions: 2,
    session: Duration::from_secs(1),
    replays: 2,
};

pub fn task(arguments: &[String]) -> Result<()> {
    let (mut check, mut quick, mut only) = (false, false, None);
    for argument in arguments {
        match argument.as_str() {
            "--check" => check = true,
            "--quick" => quick = true,
            "--null-tool" => return tools::null_tool(),
            name => {
                only = CHAPTERS.iter().find(|chapter| chapter.name == name);
                let names = CHAPTERS.each_ref().map(|chapter| chapter.name).join("|");
                ensure!(only.is_some(), "say `cargo xtask bench [--check] [--quick] [{names}]`");
            }
        }
    }
    ensure!(is_root(), "run `cargo xtask bench` as root: attaching to another process needs it");
    if command::find("bpftrace").is_none() {
        apt::ensure(&["bpftrace"], "compare with what it costs")?;
    }
    demo::build_tracer()?;
    // The two newest: the one before size-specialised allocation functions, and the one with them.
    let [.., before, with] = PINS;
    let toolchains = [toolchains::bring(before)?, toolchains::bring(with)?];
    let effort = if quick { QUICK } else { FULL };
    let wanted = CHAPTERS.iter().filter(|chapter| only.is_none_or(|only| only.name == chapter.name));
    // Before the first measure, so that what cannot be put into the page is not measured in vain.
    let path = project::root().join(PAGE);
    let before = match only {
        Some(_) => fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?,
        None => String::new(),
    };
    let mut chapters = Vec::new();
    for Chapter { title, how, measure, .. } in wanted {
        let (machine, mut rows) = (Machine::read(&toolchains), Vec::new());
        measure(&toolchains, effort, &mut rows)?;
        chapters.push(table::Chapter { title, how, machine: machine.ended(), rows });
    }
    let titles = CHAPTERS.each_ref().map(|chapter| chapter.title);
    let page = table::page(&chapters, &before, &titles);
    std::io::stdout().write_all(page.as_bytes())?;
    if !quick {
        fs::write(&path, &page).with_context(|| format!("cannot write {PAGE}"))?;
    }
    let missed = table::missed(&chapters);
    for row in &missed {
        let bound = row.bound.as_ref().map_or("", |bound| &bound.text);
        eprintln!("bound missed: {}: {bound}", row.what);
    }
    ensure!(!check || missed.is_empty(), "{} bounds are missed", missed.len());
    Ok(())
}

/// A chapter of the page.
struct Chapter {
    /// On the command line.
    name: &'static str,
    title: &'static str,
    /// How it is measured.
    how: &'static str,
    measure: fn(&[Toolchain; 2], Effort, &mut Vec<Row>) -> Result<()>,
}

/// In the order of the page.
const CHAPTERS: [Chapter; 11] = [
    Chapter {
        name: "sessions",
        title: "What a person waits for",
        how: SESSIONS,
        measure: |[before, _], effort, rows| sessions::measure(before, effort, rows),
    },
    Chapter {
        name: "overhead",
        title: "CPU added per allocation",
        how: OVERHEAD,
        measure: |both, effort, rows| {
            both.iter().try_for_each(|toolchain| overhead::measure(toolchain, effort, rows))
        },
    },
    Chapter {
        name: "idle",
        title: "CPU added by reading only",
        how: IDLE,
        measure: |[before, _], effort, rows| idle::measure(before, effort, rows),
    },
    Chapter {
        name: "server",
        title: "A default session on a server under load",
        how: SERVER,
        measure: |[before, _], effort, rows| default::served(before, effort, rows),
    },
    Chapter {
        name: "others",
        title: "A default session on a map worker and on an idle server",
        how: OTHERS,
        measure: |[before, _], effort, rows| default::others(before, effort, rows),
    },
    Chapter {
        name: "pinned",
        title: "A type that leaks, a thousand objects a second",
        how: PINNED,
        measure: |[before, _], effort, rows| pinned::measure(before, effort, rows),
    },
    Chapter {
        name: "compare",
        title: "Tools beside each other",
        how: COMPARE,
        measure: |[before, _], effort, rows| compare::measure(before, effort, rows),
    },
    Chapter {
        name: "probes",
        title: "While probes come and go",
        how: PROBES,
        measure: |[before, _], effort, rows| probes::measure(before, effort, rows),
    },
    Chapter {
        name: "census",
        title: "Counting the heap",
        how: CENSUS,
        measure: |[before, _], effort, rows| census::measure(before, effort, rows),
    },
    Chapter {
        name: "goroutines",
        title: "Grouping goroutines",
        how: GOROUTINES,
        measure: |[before, _], effort, rows| goroutines::measure(before, effort, rows),
    },
    Chapter {
        name: "replay",
        title: "Replay of recordings",
        how: REPLAY,
        measure: |_, effort, rows| replay::measure(effort, rows),
    },
];

const SERVER: &str = "\
The target (tests/fixtures/go/http) answers JSON requests over loopback connections, as many as a load generator in a process of its own asks
for, and says how many it answered and what processor time it took. `--pid` and nothing else is asked of tracer. As in the chapter above,
a session and two null tools are there throughout and all but one of them are stopped, for a quarter of a second each; a session is twenty seconds old
then. Its probes stay where they are while it is stopped, so that the ratio is that of readings; what hits take is in the row below: hits by what one costs here, and
readings, of sessions that nobody stops, forty seconds each. Under such a load the probes on goroutines are taken away most of the time, to
keep to the budget. The profiler is out where nothing in the program uses it, as `go build` leaves it. Tracer's own share is that of its
threads from ten seconds after the first report to forty.";

const OTHERS: &str = "\
The worker (tests/fixtures/go/mill) has entries of its maps come, be found and go, some sixteen operations a round; it keeps 4 096. The idle server
is that of the chapter above with some forty requests a second. The profiler is out. Measured as above; of the idle server, whose processor time per
request says more of the processor's caches than of any tool, whole sessions only.";

const PINNED: &str = "\
The target (tests/fixtures/go/pinned) keeps one object of one type in each unit of work, which is about a millisecond of arithmetic, and leaves 4 KiB of
garbage. In each round a session with nothing but `--pid` starts, comes to probe the call that makes the object, and is measured for four thousand
units from there; then a null tool is. A session is compared with the null tools before and after it. Hits and readings are those of the same
units, by tracer's own account. What it counted, and what more of it lives, is held against the target's own count.";

const COMPARE: &str = "\
Each target does about a second of work beside each tool, one after the other in a random order, again and again. A tool starts and ends with each, so
that tracer's first readings, which come faster, are in it, and what starting takes is not. `bpftrace, count` and `bpftrace, stacks` probe the entries of the
functions that tracer's `--sampler all` probes, and keep `count()`, of all and by `ustack`. Where the profiler is linked in, it runs at its usual rate
beside all tools but one; `pprof endpoint` asks for /debug/pprof/heap each second. A figure is the ratio of the processor time per unit
to that beside a null tool, or of the p99 of a request.";

const PROBES: &str = "\
Two processes (tests/fixtures/go/heartbeat): the target, which maps, touches and unmaps 64 KiB each millisecond, and another one that forks
each millisecond. Beside them, one after the other and 100 ms apart, sessions of 300 ms with probes on the target's allocator: each attaches and
detaches them all; or a null tool that starts and ends, twice. The figure of a toggle is the slowest but two of two thousand.";

const CENSUS: &str = "\
`tracer heap` on a target (tests/fixtures/go/heartbeat) that keeps a gibibyte in objects of 64 bytes, half of them with pointers, all swept. CPU per
span is tracer's own processor time less what it takes on the same program with an empty heap, by the spans more. What a census and the first report say lives is within 5 % of the
target's own number; the report rounds it to two digits. For the heartbeat
the target maps, touches and unmaps 64 KiB each millisecond and says how long the slowest but one of a thousand took. In a session: toggles of
ten seconds, each behind a collection, which is news to the session; the figure of a toggle is the geometric mean of its ten p99.9, so that each
second counts, those in which the session reads much, too. It is stopped in the other toggles, and what was due meanwhile is read at once when
it goes on: one census and about one reading of the goroutines in each toggle, no fewer than a session makes in ten seconds by itself. Over and
over: one `tracer heap` after the other, 100 ms apart, in toggles of one second. No session does that, and it has no bound; the same
tool on another process of the kind takes as much of the machine and leaves this target's lock alone, so that what is slower beside
tracer on this one is the lock's part. The null tool starts and ends and reads nothing, beside the session, too. Toggles in a random order; the
centre and interval of ratios are those of the chapter above, of differences by the same method.";

const GOROUTINES: &str = "\
`tracer goroutines` on the same target with 100 000 parked goroutines: on channels, in a select and on a mutex, each at the end of a stack of eight
functions. Each reading holds all of them, none skipped, each in a group with its stack. The heartbeat is that of the chapter above. A reading is 294 MB in 18 700
pieces, for each of which the lock is taken: one beat in sixty waits for it then, mostly for a processor to wake up (docs/design/0004).";

const SESSIONS: &str = "\
Sessions on the demo program, and on Debian's prometheus (50 MB, Go 1.19) as a large binary. `first report` is from the start of tracer
to its first report on stderr; the other times are from Ctrl-C to the last byte of the report and to the end of the process. Memory is
the peak of tracer's resident set, read every 5 ms until it is gone; it may take 64 MiB and as much again as the target's function
table. A session goes on for two seconds between its first report and Ctrl-C.";

const OVERHEAD: &str = "\
The target (tests/fixtures/go/mill) allocates mixed sizes at full speed, a fixed amount of work at a time, and says what processor time it
took (getrusage) and how many allocations it made (MemStats.Mallocs). In each round every tool is on once, in a random order: tracer
`--sampler all --events alloc`, bpftrace `{ @ = count(); }` on the entries of the same functions, and a null tool that only sleeps. A probe counts as
attached, and as gone, when the target's memory shows it. Added is the time per allocation under a tool less that under the null tool
of the same round; the share is the geometric mean of the rounds' ratios. Tracer's estimate is what its budget goes by: hits by what one costs on
this host, and by what its program took in the hits that were timed.";

const IDLE: &str = "\
The same target on one goroutine, about a fifth of a second of work per toggle. Three programs are there throughout, and in each toggle
all but one are stopped, in threes of a random order: a session of tracer `--sampler none`, a null tool that sleeps with the same cadence
and reads nothing, and a second one. The toggles are those of eight sessions, each twenty seconds old: the first readings come faster. What tracer
missed while it was stopped is due when it goes on; its own share of a processor is told for its toggles and where it is never
stopped. What its start adds to the target is not measured here, only what it takes itself. A figure is the ratio to the first null
tool, less 1. The centre is Hodges and Lehmann's on logarithms and the interval that of Wilcoxon's signed ranks, which a
disturbed toggle moves little; the second null tool shows what the instrument makes of no difference.";

const REPLAY: &str = "\
`tracer replay` from its start to the last byte of its text report, on one core. The long recording is made, not recorded, as half an hour of a
program leaves it that allocates a gibibyte a second and collects four times a second: of 2 025 records, a second of it, 1 990 are
sampled allocations by 20 000 stacks, each sent once, with the first samples; eight tell what a collection left of them, which most do not survive;
ten are of GC figures, ten of 67 size classes, and one each of the process, of counts in 100 rows, of goroutines in 20 groups, of their waits, of 64 maps,
of a census with 134 classes and 400 types, and of a memory profile with 1 500 stacks. No single session reads a profile and takes samples;
this recording has both. What wrote it has read it back and found all of it believed, without a loss but that of old pauses,
of which a session keeps 4 096. It has no names: its report shows
addresses. The other recording is real, and most of it is the names of its program.";
