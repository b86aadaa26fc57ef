//! `--record` and `tracer replay` on live sessions: the replay is the session's own report, and what a kill, a full
//! disk or a damaged file leaves is read as far as it goes.
//!
//! The truth is the report that the live session wrote, and what the fixture says it did.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tracer_tests::go::{Go, Mode, matrix};
use tracer_tests::image::image;
use tracer_tests::live;
use tracer_tests::report::{allocated_total, number};
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::{Ended, Tracer, binary};
use tracer_user::capture::sections::Pieces;
use tracer_user::goruntime::names::book::NameBook;
use tracer_user::goruntime::names::inlining::PcKind;
use tracer_user::memory::ReadAt as _;
use tracer_user::units::{Bytes, ImageAddr};

const END: Duration = Duration::from_mins(1);
const NOBODY: u32 = 65534;

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

fn replay(recording: &Path, format: &str) -> Ended {
    Tracer::run(&["replay", path(recording), "--format", format], END)
}

/// A folder where everybody may go; below the target folder others may not.
struct Open(PathBuf);

impl Open {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tracer-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    /// tracer, as somebody who may do nothing.
    fn as_nobody(&self, arguments: &[&str]) -> Ended {
        let copy = self.0.join("tracer");
        if !copy.exists() {
            fs::copy(binary(), &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(["--bounding-set", "-all", "--inh-caps", "-all"]).arg(&copy).args(arguments);
        Tracer::start_command(command.current_dir("/")).wait(END)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_replay_is_the_sessions_report_without_root_and_without_the_program() {
    live!();
    let open = Open::new("replay");
    let all = Go::all();
    let cases = [
        (&all[0], Mode::StrippedPie, "text", &["--sampler", "all"][..]),
        (&all[1], Mode::Ordinary, "json", &["--sampler", "all", "--events", "alloc,map,goroutine"]),
        (&all[2], Mode::Ordinary, "folded", &["--sampler", "all"]),
        (&all[2], Mode::StrippedPie, "text", &["--sampler", "none"]),
    ];
    for (index, (go, mode, format, arguments)) in cases.into_iter().enumerate() {
        // A copy, so that the program can be taken away.
        let program = open.0.join(format!("allocs-{index}"));
        fs::copy(go.build("allocs", mode), &program).unwrap();
        let mut target = Target::start(&program);
        let recording = open.0.join(format!("{index}.trc"));
        let report = open.0.join(format!("{index}.out"));
        let mut all = vec!["--format", format, "--record", path(&recording), "-o", path(&report)];
        all.extend(arguments);
        let tracer = Tracer::attach(target.pid(), &all);
        target.ask("run 20 nolarge");
        target.ask("gc");
        thread::sleep(Duration::from_secs(1));
        drop(tracer.interrupt().success());
        assert!(target.finish().success());
        fs::remove_file(&program).unwrap();
        assert_eq!(fs::metadata(&recording).unwrap().permissions().mode() & 0o7777, 0o600);
        // Only its owner may replay it.
        let replayed = ["replay", path(&recording), "--format", format];
        drop(open.as_nobody(&replayed).refused(&["cannot open", "Permission denied"]));
        chown(&recording, Some(NOBODY), Some(NOBODY)).unwrap();
        let told = open.as_nobody(&replayed).success();
        let live = fs::read_to_string(&report).unwrap();
        assert!(live.len() > 200, "{live}");
        assert!(told.stdout == live, "go {} {format}:\n{}\nlive:\n{live}", go.pin.version, told.stdout);
        assert_eq!(told.stderr, "");
        // By -o, and once more.
        let again = open.0.join(format!("{index}.again"));
        fs::write(&again, "").unwrap();
        chown(&again, Some(NOBODY), Some(NOBODY)).unwrap();
        drop(open.as_nobody(&[&replayed[..], &["-o", path(&again)]].concat()).success());
        assert!(fs::read_to_string(&again).unwrap() == live);
    }
}

/// The runtime's own memory profile, in every format that shows it.
#[test]
fn a_replay_has_the_memory_profile_of_its_session() {
    live!();
    let scratch = Scratch::new("replay-profile");
    let all = Go::all();
    for (go, mode) in [(&all[0], Mode::StrippedPie), (&all[all.len() - 1], Mode::Ordinary)] {
        let what = format!("go {} {}", go.pin.version, mode.name());
        for (name, least) in [("live.pb.gz", 500), ("live.folded", 100), ("live.json", 500)] {
            let mut target = Target::start(&go.build("profile", mode));
            target.ask("run 2000");
            target.ask("gc");
            let (recording, live) = (scratch.file("s.trc"), scratch.file(name));
            let arguments =
                ["--sampler", "runtime", "--duration", "1s", "--record", path(&recording), "-o", path(&live)];
            drop(Tracer::attach(target.pid(), &arguments).wait(END).success());
            assert!(target.finish().success());
            let again = scratch.file(&format!("again-{name}"));
            drop(Tracer::run(&["replay", path(&recording), "-o", path(&again)], END).success());
            let (live, again) = (fs::read(&live).unwrap(), fs::read(&again).unwrap());
            assert!(live.len() > least, "{what} {name}: {} bytes", live.len());
            assert!(live == again, "{what}: {name} is not the live session's");
        }
        let recording = scratch.file("s.trc");
        // As lines a session is told once, as of its end.
        let lines = replay(&recording, "jsonl").success().stdout;
        let kinds: Vec<String> = lines
            .lines()
            .map(|line| line.parse::<serde_json::Value>().unwrap()["line"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!((kinds[0].as_str(), kinds[kinds.len() - 1].as_str()), ("session", "end"), "{what}");
        assert_eq!(kinds.iter().filter(|kind| *kind == "heap_profile").count(), 1, "{what}: {kinds:?}");
        let told = replay(&recording, "json").success().json();
        assert_eq!(told["session"]["sampler"], "runtime", "{what}");
        let text = replay(&recording, "text").success().stdout;
        assert!(text.contains("by Go's own memory profile"), "{what}: {text}");
    }
}

/// What a recording keeps of an executable names every address as the executable does.
#[test]
fn kept_name_sections_name_what_the_executable_names() {
    live!(Go);
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let program = go.build("demo", mode);
        let (image, len) = (image(&program), program.metadata().unwrap().len());
        let mut pieces = Pieces::default();
        let mut kept = 0;
        for extent in image.name_extents() {
            let size = extent.end.0 - extent.start.0;
            kept += size;
            pieces.add(
                extent.start,
                &image.memory().read_vec(extent.start, size as usize, Bytes(len)).unwrap(),
            );
        }
        assert!(kept < len / 2, "{what}: {kept} of {len}");
        let types = image.module().types;
        let found = (types.start.0..types.end.0).step_by(8).map(ImageAddr);
        let found: Vec<ImageAddr> = found.filter(|at| image.type_info(*at).is_ok()).take(500).collect();
        for (at, bytes) in found.iter().flat_map(|at| image.type_pieces(*at)) {
            pieces.add(at, &bytes);
        }
        let book = NameBook::open(&image.name_sections(), Box::new(pieces.sections())).unwrap();
        let (mut functions, mut inlined) = (0, 0);
        // All would take minutes: every fifteenth function, in its first kilobytes.
        for function in image.functions().step_by(15) {
            functions += 1;
            let last = function.end.0.min(function.entry.0 + 2048);
            for pc in (function.entry.0..last).step_by(11).map(ImageAddr) {
                for kind in [PcKind::Return, PcKind::Exact] {
                    let frames = image.frames_at(pc, kind);
                    inlined += usize::from(frames.len() > 1);
                    assert_eq!(book.frames_at(pc, kind), frames, "{what}: {pc} {kind:?}");
                }
            }
        }
        assert!(functions > 100 && inlined > 100, "{what}: {functions} functions, {inlined} inlined");
        assert!(found.len() > 200, "{what}: {} types", found.len());
        for at in found {
            assert_eq!(book.type_info(at).unwrap(), image.type_info(at).unwrap(), "{what}: type at {at}");
        }
    }
}

#[test]
fn a_program_traced_from_its_start_is_recorded() {
    live!();
    let scratch = Scratch::new("recorded-start");
    let (recording, report) = (scratch.file("s.trc"), scratch.file("r.json"));
    let program = Go::demo().build("brief", Mode::Ordinary);
    let arguments = ["--record", path(&recording), "-o", path(&report), "--", path(&program), "0", "3"];
    drop(Tracer::run(&arguments, END).success());
    let told = replay(&recording, "json").success();
    assert!(told.stdout == fs::read_to_string(&report).unwrap(), "{}", told.stdout);
}

#[test]
fn what_a_killed_tracer_recorded_is_replayed() {
    live!();
    let scratch = Scratch::new("killed");
    let recording = scratch.file("s.trc");
    let mut target = Target::start(&Go::demo().build("allocs", Mode::Ordinary));
    let arguments = ["--sampler", "all", "--events", "alloc", "--record", path(&recording)];
    let tracer = Tracer::attach(target.pid(), &arguments);
    let before = target.ask("memstats");
    target.ask("run 20 nolarge");
    // A reading a second, and a second until its block is on disk.
    thread::sleep(Duration::from_millis(3500));
    tracer.kill();
    let after = target.ask("memstats");
    let told = replay(&recording, "json").success().json();
    assert_eq!(told["session"]["ended_by"], "recording-cut");
    assert_eq!(told["session"]["lower_bounds"], true);
    assert_eq!(number(&told, "/session/counters/recording_cut"), 1);
    let counted = allocated_total(&told).objects;
    let mallocs = |account: &serde_json::Value| number(account, "/mallocs");
    // All of the work is in it, and no more than the target made.
    let made = mallocs(&after) - mallocs(&before);
    assert!(counted > made / 2 && counted <= made + made / 10, "{counted} of {made}");
    let text = replay(&recording, "text").success().stdout;
    assert!(text.contains("the recording ends early; this is what it holds"), "{text}");
    assert!(text.contains("note: the recording ends early, behind offset"), "{text}");
    assert!(text.contains("LOSSES: totals are lower bounds"), "{text}");
    // The same file is taken for the next session.
    let tracer = Tracer::attach(target.pid(), &arguments);
    drop(tracer.interrupt().success());
    let told = replay(&recording, "json").success().json();
    assert_eq!(told["session"]["ended_by"], "signal");
}

/// A small disk, gone with its value.
struct Disk(PathBuf);

impl Disk {
    fn new(folder: PathBuf, size: &str) -> Self {
        fs::create_dir(&folder).unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder).status();
        assert!(mounted.unwrap().success());
        Self(folder)
    }

    fn fill(&self) {
        // Ends with the disk: that is what it is for.
        drop(fs::write(self.0.join("filler"), vec![1; 8 << 20]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

#[test]
fn a_recording_on_a_full_disk_stays_readable_and_the_session_goes_on() {
    live!();
    let scratch = Scratch::new("full");
    let disk = Disk::new(scratch.file("disk"), "4m");
    let recording = disk.0.join("s.trc");
    let mut target = Target::start(&Go::demo().build("allocs", Mode::Ordinary));
    let arguments = ["--sampler", "all", "--format", "json", "--record", path(&recording)];
    let mut tracer = Tracer::attach(target.pid(), &arguments);
    // Until the session's first seconds are on the disk, which is behind the names.
    let began = Instant::now();
    while replay(&recording, "text").status.code() != Some(0) {
        assert!(began.elapsed() < END, "nothing was recorded");
        thread::sleep(Duration::from_millis(100));
    }
    disk.fill();
    target.ask("run 20 nolarge");
    let said = tracer.wait_for("the recording ends here", END);
    assert!(said.contains("No space left on device") && said.contains("the session goes on"), "{said}");
    let ended = tracer.interrupt().success();
    assert_eq!(ended.stderr.matches("the recording ends here").count(), 1, "{}", ended.stderr);
    let live = ended.json();
    assert!(number(&live, "/session/counters/unrecorded") > 0, "{live}");
    // The live figures are whole: only the recording is not.
    assert_eq!(live["session"]["lower_bounds"], false);
    let remarks = live["session"]["remarks"].to_string();
    assert!(remarks.contains("the recording ends early: No space left on device"), "{remarks}");
    let told = replay(&recording, "json").success().json();
    assert_eq!(told["session"]["ended_by"], "recording-cut");
    assert_eq!(told["session"]["lower_bounds"], true);
    assert_eq!(told["target"]["pid"], target.pid());
    // A disk without any room: nothing to replay, and the session does its work all the same.
    fs::remove_file(&recording).unwrap();
    disk.fill();
    let duration = [&arguments[..], &["--duration", "1s", "--pid"]].concat();
    let pid = target.pid().to_string();
    let ended = Tracer::run(&[&duration[..], &[&pid]].concat(), END).success();
    assert!(ended.stderr.contains("the recording ends here"), "{}", ended.stderr);
    drop(replay(&recording, "json").refused(&[]));
}

#[test]
fn a_damaged_recording_is_refused_with_the_offset() {
    live!(Tracer);
    let scratch = Scratch::new("damaged");
    let whole = xtask::project::root().join("tests/captures/goroutines.trc");
    let bytes = fs::read(&whole).unwrap();
    let damaged = scratch.file("damaged.trc");
    for at in [30, 1000, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&damaged, &changed).unwrap();
        drop(replay(&damaged, "text").refused(&["damaged recording", "at offset"]));
    }
    fs::write(&damaged, "# not a recording\n").unwrap();
    drop(replay(&damaged, "text").refused(&["not a recording of tracer"]));
    fs::write(&damaged, &bytes[..500]).unwrap();
    drop(replay(&damaged, "text").refused(&["ends before its session began"]));
    drop(replay(&scratch.file("none.trc"), "text").refused(&["cannot open"]));
    drop(replay(scratch.path(), "text").refused(&["cannot read the recording"]));
    // A closed pipe is a normal end.
    assert!(replay(&whole, "text").success().stdout.contains("goroutines by creation site"));
}

#[test]
fn a_recording_goes_nowhere_but_where_it_was_meant_to() {
    live!();
    let scratch = Scratch::new("place");
    let mut target = Target::start(&Go::demo().build("allocs", Mode::Ordinary));
    let pid = target.pid().to_string();
    let to = |file: &Path| {
        Tracer::run(&["--pid", &pid, "--sampler", "none", "--duration", "1s", "--record", path(file)], END)
    };
    let treasure = scratch.file("treasure");
    fs::write(&treasure, "not to be written over").unwrap();
    drop(to(&treasure).refused(&["it exists and is no recording"]));
    let link = scratch.file("link");
    symlink(&treasure, &link).unwrap();
    drop(to(&link).refused(&["symbolic link"]));
    let dangling = scratch.file("dangling");
    symlink(scratch.file("victim"), &dangling).unwrap();
    drop(to(&dangling).refused(&["symbolic link"]));
    assert!(!scratch.file("victim").exists());
    drop(to(Path::new("/dev/null")).refused(&["not a regular file"]));
    drop(to(&scratch.file("no/such/folder")).refused(&["give --record another path"]));
    let theirs = scratch.file("theirs");
    fs::write(&theirs, "").unwrap();
    chown(&theirs, Some(NOBODY), None).unwrap();
    drop(to(&theirs).refused(&["belongs to another user"]));
    assert_eq!(fs::read_to_string(&treasure).unwrap(), "not to be written over");
    // A session that is refused leaves no file.
    let own = std::process::id().to_string();
    let left = scratch.file("left");
    drop(Tracer::run(&["--pid", &own, "--record", path(&left)], END).refused(&["not a Go program"]));
    assert!(!left.exists());
    // Its name may hold the pid, and what others could read of an empty file before, they cannot read now.
    let named = scratch.file(&format!("{pid}.trc"));
    fs::write(&named, "").unwrap();
    fs::set_permissions(&named, fs::Permissions::from_mode(0o644)).unwrap();
    drop(to(&scratch.file("{pid}.trc")).success());
    assert_eq!(fs::metadata(&named).unwrap().permissions().mode() & 0o7777, 0o600);
    drop(replay(&named, "json").success());
    assert!(target.is_alive());
}
