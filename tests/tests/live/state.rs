//! The runtime's state read from outside against the program's own account, on real Go programs.
//!
//! The fixture says through runtime.Stack, ReadMemStats, ReadGCStats and runtime/metrics what it holds, and stays
//! still until we have read the same from its memory. Addresses of variables come from its symbol table.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use tracer_tests::{go, live};
use tracer_user::goruntime::layout::Layout;
use tracer_user::goruntime::state::goroutines::Limits;
use tracer_user::goruntime::state::{RuntimeState, StateError, StateVars};
use tracer_user::host::launch::Waiting;
use tracer_user::host::memory::ProcessMemory;
use tracer_user::host::process::{Process, Segment};
use tracer_user::record::reading::{GoState, Goroutines};
use tracer_user::units::{Bytes, FileOffset, ImageAddr, LoadBias, Pid, ProcAddr};
use xtask::toolchains::EVERY;

/// A running fixture and what we know of its file.
struct Target {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    process: Process,
    bias: LoadBias,
    symbols: BTreeMap<String, u64>,
    layout: &'static Layout,
}

impl Drop for Target {
    fn drop(&mut self) {
        // Only the process this test started, by its own handle.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn build(version: &str, label: &str, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/go/state");
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("state-{version}-{label}"));
    let done = go::command(version)
        .args(["build", "-o"])
        .arg(&output)
        .args(flags)
        .arg(".")
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .output()
        .expect("go runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    output
}

impl Target {
    fn start(version: &str, label: &str, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let file = build(version, label, flags);
        let mut child = Command::new(&file)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let bytes = std::fs::read(&file).unwrap();
        let elf = object::File::parse(&*bytes).unwrap();
        let symbols = elf.symbols().filter_map(|s| Some((s.name().ok()?.to_owned(), s.address()))).collect();
        let segments: Vec<Segment> = elf
            .segments()
            .map(|s| Segment {
                vaddr: ImageAddr(s.address()),
                offset: FileOffset(s.file_range().0),
                file_size: Bytes(s.file_range().1),
            })
            .collect();
        let minor = version.split('.').nth(1).unwrap().parse().unwrap();
        let mut line = String::new();
        let mut output = output;
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let process = Process::open(Pid(child.id())).unwrap();
        let bias = process.load_bias(&segments).unwrap();
        let layout = Layout::for_minor(minor).unwrap();
        Self { child, input, output, process, bias, symbols, layout }
    }

    fn at(&self, symbol: &str) -> ProcAddr {
        self.bias.to_proc(ImageAddr(self.symbols[symbol]))
    }

    fn vars(&self) -> StateVars {
        StateVars {
            memstats: self.at("runtime.memstats"),
            gc_controller: self.at("runtime.gcController"),
            work: self.at("runtime.work"),
            allgs: self.at("runtime.allgs"),
            allglen: self.at("runtime.allglen"),
            allgptr: self.at("runtime.allgptr"),
            mheap: self.at("runtime.mheap_"),
            wait_reason_strings: Some(self.at("runtime.waitReasonStrings")),
        }
    }

    fn open(&self) -> RuntimeState {
        RuntimeState::open(&self.memory(), self.layout, self.vars(), now_ns()).unwrap()
    }

    fn memory(&self) -> ProcessMemory {
        self.process.memory()
    }

    fn say(&mut self, line: &str) -> String {
        self.input.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer
    }

    /// Lets the fixture take its account, and runs `read` while it stays still. Returns both.
    fn account<T>(&mut self, read: impl FnOnce(&Self) -> T) -> (serde_json::Value, T) {
        assert_eq!(self.say("account\n"), "taken\n");
        let ours = read(self);
        let theirs = self.say("go on\n");
        (serde_json::from_str(&theirs).unwrap(), ours)
    }
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// One goroutine group by everything that must agree: state or wait, creation site, frames.
type Key = (String, Option<u64>, Vec<u64>);

/// Function names by address, for both accounts.
struct Functions<'a> {
    target: &'a Target,
    by_address: BTreeMap<u64, &'a str>,
}

impl<'a> Functions<'a> {
    fn new(target: &'a Target) -> Self {
        let by_address = target.symbols.iter().map(|(name, &address)| (address, name.as_str())).collect();
        Self { target, by_address }
    }

    /// The function a return address belongs to: the one of the call before it.
    fn of(&self, pc: ProcAddr) -> &'a str {
        let linked = self.target.bias.to_image(pc).0;
        self.by_address.range(..linked).next_back().unwrap().1
    }

    fn pc(&self, name: &str, offset: &str) -> u64 {
        let entry = self.target.symbols.get(name).unwrap_or_else(|| panic!("no symbol {name}"));
        self.target.bias.to_proc(ImageAddr(*entry)).0 + u64::from_str_radix(offset, 16).unwrap()
    }

    /// What runtime.Stack leaves out (runtime/traceback.go, showframe and elideWrapperCalling).
    fn is_hidden(name: &str) -> bool {
        name.starts_with("runtime.") || name.contains(".gowrap")
    }

    /// Groups of the text of runtime.Stack. Each frame that is not inlined ends in its offset.
    fn groups_of_text(&self, text: &str) -> BTreeMap<Key, u64> {
        let mut groups = BTreeMap::new();
        for goroutine in text.split("\n\n") {
            let mut lines = goroutine.lines();
            let header = lines.next().unwrap();
            let state = header.split_once('[').unwrap().1.split([',', ']']).next().unwrap().to_owned();
            let mut created = None;
            let mut frames = Vec::new();
            let lines: Vec<&str> = lines.collect();
            for pair in lines.chunks_exact(2) {
                let Some((_, offset)) = pair[1].rsplit_once(" +0x") else {
                    continue;
                };
                if let Some(name) = pair[0].strip_prefix("created by ") {
                    created = Some(self.pc(name.split(" in goroutine").next().unwrap(), offset));
                } else {
                    let name = pair[0].rsplit_once('(').unwrap().0;
                    if !Self::is_hidden(name) {
                        frames.push(self.pc(name, offset));
                    }
                }
            }
            *groups.entry((state, created, frames)).or_default() += 1;
        }
        groups
    }

    /// Our groups in the same form, without the runtime's own goroutines, which the text leaves out. Before 1.22 what
    /// `go f(x)` wraps around f has the name of a closure, and the text, which leaves it out, is what tells it from one.
    fn groups_of_ours(&self, ours: &Goroutines, text: &str) -> BTreeMap<Key, u64> {
        let mut groups = BTreeMap::new();
        for group in &ours.groups {
            if group.created_at.is_some() && self.of(group.entry.plus(1)).starts_with("runtime.") {
                continue;
            }
            let state = match group.state {
                GoState::Waiting => group.wait.clone().unwrap_or_default(),
                other => format!("{other:?}").to_lowercase(),
            };
            let mut frames: Vec<u64> =
                group.stack.iter().filter(|&&f| !Self::is_hidden(self.of(f))).map(|f| f.0).collect();
            let wraps = |name: &str| name.contains(".func") && !text.contains(&format!("{name}("));
            if self.target.layout.minor < 22 && frames.last().is_some_and(|f| wraps(self.of(ProcAddr(*f)))) {
                frames.pop();
            }
            *groups.entry((state, group.created_at.map(|a| a.0), frames)).or_default() += group.count;
        }
        groups
    }
}

fn goroutines_equal(version: &str, label: &str, flags: &[&str]) {
    let mut target = Target::start(version, label, flags, &[]);
    let state = target.open();
    assert!(state.knows_wait_reasons());
    let (account, ours) = target.account(|t| state.goroutines(&t.memory(), Limits::default()).unwrap());
    target.process.still_same().unwrap();
    let text = account["Stacks"].as_str().unwrap();
    let functions = Functions::new(&target);
    let mut theirs = functions.groups_of_text(text);
    let mut found = functions.groups_of_ours(&ours, text);
    assert_eq!(theirs.values().sum::<u64>(), account["NumGoroutine"].as_u64().unwrap());
    // The main goroutine was running when it took the account and is in a raw read while we look.
    let main = |k: &Key| k.1.is_none();
    theirs.retain(|k, _| !main(k));
    let mains: Vec<Key> = found.keys().filter(|k| main(k)).cloned().collect();
    assert_eq!(mains.len(), 1, "{mains:#x?}");
    assert_eq!(mains[0].0, "syscall");
    let called: Vec<&str> = mains[0].2.iter().map(|&pc| functions.of(ProcAddr(pc))).collect();
    assert!(called.ends_with(&["main.main"]) && called.len() >= 3, "{called:?}");
    found.retain(|k, _| !main(k));
    // Every goroutine's walk ends at the function every goroutine ends in.
    for group in ours.groups.iter().filter(|g| g.state != GoState::Running) {
        assert_eq!(functions.of(*group.stack.last().unwrap()), "runtime.goexit.abi0", "{group:#x?}");
    }
    let differ = |a: &BTreeMap<Key, u64>, b: &BTreeMap<Key, u64>| -> Vec<(Key, u64)> {
        a.iter().filter(|(k, v)| b.get(*k) != Some(*v)).map(|(k, v)| (k.clone(), *v)).collect()
    };
    let (only_theirs, only_ours) = (differ(&theirs, &found), differ(&found, &theirs));
    assert!(
        only_theirs.is_empty() && only_ours.is_empty(),
        "go{version}\nonly in the program's account: {only_theirs:#x?}\nonly in ours: {only_ours:#x?}"
    );
    assert_eq!(ours.skipped, 0);
    assert_eq!(ours.total, ours.groups.iter().map(|g| g.count).sum::<u64>());
    // The fixture's own plan: how many by creation and kind.
    let count = |wait: &str| -> u64 {
        ours.groups.iter().filter(|g| g.wait.as_deref() == Some(wait)).map(|g| g.count).sum()
    };
    assert_eq!(
        (count("chan send"), count("chan receive (nil chan)"), count("select (no cases)")),
        (10, 4, 3)
    );
    assert_eq!(count("select"), 5);
    let deep = ours.groups.iter().find(|g| g.stack.len() > 40).unwrap();
    assert_eq!(deep.count, 2);
    assert!(deep.oldest_wait.is_some(), "a GC has seen it parked");
    let ids = &ours.groups.iter().find(|g| g.created_at.is_none()).unwrap().examples;
    assert_eq!(ids.iter().map(|g| g.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn goroutines_equal_the_runtimes_own_stacks() {
    live!(EveryGo);
    for pin in EVERY {
        goroutines_equal(pin.version, "exe", &[]);
    }
}

#[test]
fn goroutines_equal_the_runtimes_own_stacks_in_a_position_independent_program() {
    live!(Go);
    goroutines_equal("1.26.8", "pie", &["-buildmode=pie"]);
}

/// Four stack cache refills (runtime/stack.go, `_StackCacheSize`).
const STACK_SLACK: u64 = 128 << 10;

fn heap_equals(version: &str, label: &str, env: &[(&str, &str)]) {
    let mut target = Target::start(version, label, &[], env);
    let state = target.open();
    let (account, (gc, classes)) =
        target.account(|t| (state.gc(&t.memory(), None).unwrap(), state.size_classes(&t.memory()).unwrap()));
    let theirs = |name: &str| account["Mem"][name].as_u64().unwrap();
    assert_eq!(u64::from(gc.cycles), theirs("NumGC"));
    assert_eq!(u64::from(gc.forced), theirs("NumForcedGC"));
    assert_eq!(gc.last_gc_unix_ns, Some(theirs("LastGC")));
    // runtime/metrics has the live heap and GOGC since 1.21; the fixture's number is 0 where it has not.
    let told = |name: &str| account[name].as_i64().filter(|n| *n > 0);
    assert_eq!(told("HeapLive").is_some(), state.layout().minor >= 21);
    if let Some(live) = told("HeapLive") {
        assert_eq!(gc.heap_marked.0, live as u64);
        assert_eq!(told("Gogc"), Some(i64::from(gc.gogc)));
    }
    assert!(gc.heap_marked.0 > 3_000 * 1_048);
    assert_eq!(gc.in_use.0, theirs("HeapInuse"));
    assert_eq!(gc.released.0, theirs("HeapReleased"));
    let free = theirs("HeapIdle") - theirs("HeapReleased");
    assert!(gc.free.0.abs_diff(free) <= STACK_SLACK, "{} free, {free} told", gc.free.0);
    // A thread of the runtime may take stacks from the heap after the account.
    assert!(gc.in_stacks.0.abs_diff(theirs("StackInuse")) <= STACK_SLACK);
    // The decimal text may differ in the last bit.
    let fraction = account["Mem"]["GCCPUFraction"].as_f64().unwrap();
    assert!((gc.cpu_fraction.unwrap() - fraction).abs() < 1e-12);
    let goal = account["HeapGoal"].as_u64().unwrap();
    let ours = gc.goal.unwrap().0;
    // The goal follows mapped memory where a limit sets it, and that moves with every freed page.
    assert!(ours.abs_diff(goal) <= goal / 100, "goal {ours}, the program says {goal}");
    let pauses: Vec<u64> =
        account["Pauses"].as_array().unwrap().iter().rev().map(|p| p.as_u64().unwrap()).collect();
    assert_eq!(gc.new_pauses_ns, pauses);

    let mut allocs = classes.large_allocs + classes.tiny_allocs;
    let mut frees = classes.large_frees + classes.tiny_allocs;
    for class in &classes.small {
        allocs += class.allocs;
        frees += class.frees;
    }
    // A P may have allocated a little since: at most what one span of each size it uses holds.
    assert!(allocs.abs_diff(theirs("Mallocs")) <= 64, "{allocs} and {}", theirs("Mallocs"));
    assert!(frees.abs_diff(theirs("Frees")) <= 64, "{frees} and {}", theirs("Frees"));
    let by_size = account["Mem"]["BySize"].as_array().unwrap();
    for row in by_size.iter().skip(1) {
        let [size, mallocs, frees] = [0, 1, 2].map(|i| row[i].as_u64().unwrap());
        let Some(ours) = classes.small.iter().find(|c| c.size.0 == size) else {
            panic!("no class of {size} bytes")
        };
        let span_objects = 8192_u64.div_ceil(size);
        let (live, theirs) = (ours.allocs - ours.frees, mallocs - frees);
        assert!(live.abs_diff(theirs) <= span_objects, "class {size}: {live} and {theirs}");
    }
    let of_48 = classes.small.iter().find(|c| c.size.0 == 48).unwrap();
    assert!(of_48.allocs - of_48.frees >= 3000);
    // Only what happened since is told the next time.
    let again = state.gc(&target.memory(), Some(gc.cycles)).unwrap();
    assert_eq!(again.new_pauses_ns.len(), (again.cycles - gc.cycles) as usize);
}

#[test]
fn heap_and_gc_equal_memstats() {
    live!(EveryGo);
    for pin in EVERY {
        heap_equals(pin.version, "heap", &[]);
    }
}

#[test]
fn the_goal_under_a_memory_limit_is_the_pacers() {
    live!(Go);
    heap_equals("1.27.3", "limit", &[("STATE_LIMIT", "1"), ("GOGC", "1000000")]);
}

/// Reads without pause while goroutines are born, grow their stacks, wait and end.
fn churn(version: &str) {
    let mut target = Target::start(version, "churn", &[], &[]);
    let state = target.open();
    assert_eq!(target.say("churn\n"), "churning\n");
    let text = target.at("runtime.text").0..target.at("runtime.etext").0;
    let memory = target.memory();
    let (mut passes, mut torn, mut gcs, mut skipped, mut total) = (0, 0, 0, 0, 0);
    let mut last = (0, 0);
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        passes += 1;
        let all = state.goroutines(&memory, Limits::default()).unwrap();
        skipped += all.skipped;
        total += all.total;
        let counted: u64 = all.groups.iter().map(|group| group.count).sum();
        assert!(counted <= all.total, "counted twice: {counted} of {}", all.total);
        assert!(
            counted + all.skipped >= all.total,
            "lost uncounted: {counted} and {} skipped of {}",
            all.skipped,
            all.total
        );
        for group in &all.groups {
            for pc in group.stack.iter().chain(&group.created_at).chain([&group.entry]) {
                assert!(text.contains(&pc.0), "{pc} is no code: {group:#x?}");
            }
        }
        match state.size_classes(&memory) {
            Ok(classes) => {
                let allocs: u64 = classes.small.iter().map(|c| c.allocs).sum();
                let frees: u64 = classes.small.iter().map(|c| c.frees).sum();
                assert!(allocs >= last.0 && frees >= last.1, "counts never fall");
                last = (allocs, frees);
            }
            Err(_) => torn += 1,
        }
        if let Ok(gc) = state.gc(&memory, None) {
            gcs = gc.cycles;
        } else {
            torn += 1;
        }
    }
    target.process.still_same().unwrap();
    assert!(passes > 10 && gcs > 5, "go{version}: {passes} passes, {gcs} cycles");
    // How many change while they are read is the machine's business (0.2 to 5 % here, by load); that most are read
    // is ours.
    assert!(skipped * 2 < total, "{skipped} of {total} skipped");
    assert!(torn < passes, "{torn} torn in {passes} passes");
}

#[test]
fn a_busy_program_is_read_without_garbage_1_22() {
    live!(Go);
    churn("1.22.10");
}

#[test]
fn a_busy_program_is_read_without_garbage_1_27() {
    live!(Go);
    churn("1.27.3");
}

#[test]
fn another_versions_layout_is_refused_by_name() {
    live!(Go);
    let target = Target::start("1.27.3", "wrong", &[], &[]);
    for minor in 19..=25 {
        let layout = Layout::for_minor(minor).unwrap();
        let refused = RuntimeState::open(&target.memory(), layout, target.vars(), now_ns());
        let line = refused.expect_err(&format!("1.{minor}")).to_string();
        assert!(line.starts_with(&format!("go1.{minor}'s layout does not fit")), "{line}");
    }
    // 1.26 is no other version here: nothing of what this state is made of lies elsewhere in it. What does is refused where
    // it is read: the module's description when the file is opened, the profile's records with the profile (tests/newer.rs).
    let known = Layout::for_minor(26).unwrap();
    let moved: Vec<&str> = known
        .fields()
        .into_iter()
        .zip(target.layout.fields())
        .filter_map(|(before, now)| (before != now).then_some(now.0))
        .collect();
    assert_eq!(
        moved,
        [
            "runtime.moduledata.etypes",
            "runtime.moduledata.gofunc",
            "runtime.moduledata.next",
            "runtime.moduledata.sizeof",
            "runtime.memRecord.future",
            "runtime.memRecord.sizeof",
            "runtime.memRecordCycle.sizeof",
        ]
    );
    let memory = target.memory();
    let as_before =
        RuntimeState::open(&memory, known, target.vars(), now_ns()).expect("1.26's state is the same");
    let count = |state: &RuntimeState| state.goroutines(&memory, Limits::default()).unwrap().total;
    assert_eq!(count(&as_before), count(&target.open()));
    // Addresses of other variables are refused as well.
    let right = target.vars();
    for wrong in [
        StateVars { memstats: right.mheap, ..right },
        StateVars { gc_controller: right.memstats, ..right },
        StateVars { work: right.memstats, ..right },
        StateVars { allgs: right.memstats, ..right },
        StateVars { allglen: right.allgptr, ..right },
        StateVars { mheap: right.memstats, ..right },
        StateVars { wait_reason_strings: Some(right.memstats), ..right },
    ] {
        let refused = RuntimeState::open(&target.memory(), target.layout, wrong, now_ns());
        let line = refused.expect_err("a wrong address").to_string();
        assert!(line.contains("does not fit") || line.contains("cannot read"), "{line}");
    }
}

#[test]
fn limits_are_kept_and_what_they_cut_is_counted() {
    live!(Go);
    let target = Target::start("1.26.8", "limits", &[], &[]);
    let state = target.open();
    let memory = target.memory();
    let all = state.goroutines(&memory, Limits::default()).unwrap();
    let few = state.goroutines(&memory, Limits { goroutines: 10, ..Limits::default() }).unwrap();
    assert!(few.total <= 10 && few.skipped + few.total >= all.total);
    let one = state.goroutines(&memory, Limits { groups: 1, ..Limits::default() }).unwrap();
    assert_eq!((one.groups.len(), one.total), (1, all.total));
    assert_eq!(one.skipped, all.total - one.groups[0].count);
}

#[test]
fn a_target_that_ended_is_an_error_and_not_an_empty_reading() {
    live!(Go);
    let mut target = Target::start("1.26.8", "ended", &[], &[]);
    let state = target.open();
    target.child.kill().unwrap();
    target.child.wait().unwrap();
    assert!(target.process.still_same().is_err());
    let memory = target.memory();
    assert!(state.goroutines(&memory, Limits::default()).is_err());
    assert!(state.gc(&memory, None).is_err());
    assert!(state.size_classes(&memory).is_err());
}

#[test]
fn a_hundred_thousand_goroutines_are_one_group() {
    live!(Go);
    let target = Target::start("1.26.8", "many", &[], &[("STATE_MANY", "100000")]);
    let state = target.open();
    let all = state.goroutines(&target.memory(), Limits::default()).unwrap();
    let largest = all.groups.iter().map(|g| g.count).max();
    assert_eq!(largest, Some(100_000));
    assert_eq!(all.skipped, 0);
}

#[test]
fn a_launched_program_is_readable_as_soon_as_its_runtime_has_started() {
    live!(Go);
    let file = build("1.26.8", "launch", &[]);
    let waiting = Waiting::start(&file, file.as_os_str(), &[]).unwrap();
    let pid = waiting.pid();
    let mut running = waiting.release().unwrap();
    let process = Process::open(pid).unwrap();
    assert_eq!(process.exe_path(), file);
    let bytes = std::fs::read(&file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let symbols: BTreeMap<&str, u64> =
        elf.symbols().filter_map(|s| Some((s.name().ok()?, s.address()))).collect();
    let at = |name: &str| ProcAddr(symbols[name]);
    let vars = StateVars {
        memstats: at("runtime.memstats"),
        gc_controller: at("runtime.gcController"),
        work: at("runtime.work"),
        allgs: at("runtime.allgs"),
        allglen: at("runtime.allglen"),
        allgptr: at("runtime.allgptr"),
        mheap: at("runtime.mheap_"),
        wait_reason_strings: None,
    };
    let layout = Layout::for_minor(26).unwrap();
    // The fixture sleeps before it looks at its input, so it is there for a while.
    let mut refused = Vec::new();
    let opened = (0..2000).find_map(|_| {
        let opened = RuntimeState::open(&process.memory(), layout, vars, now_ns());
        opened.map_err(|e| refused.push(e)).ok()
    });
    running.signal(rustix::process::Signal::KILL);
    running.wait().unwrap();
    assert!(opened.is_some(), "{:?}", refused.last());
    assert!(refused.iter().all(|e| *e == StateError::NotStarted), "{refused:?}");
}
