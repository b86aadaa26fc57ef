//! Profiles that tracer writes, against the target's own endpoint and as `go tool pprof` reads them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use prost::Message as _;
use tracer_tests::go::{self, Go, Mode, every_version, matrix};
use tracer_tests::live;
use tracer_tests::report::{list, number};
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;
use tracer_user::report::pprof_proto::Profile;

const END: Duration = Duration::from_mins(1);

/// Functions with lines, innermost first, and the size of the objects; the values in Go's order.
type Samples = BTreeMap<(Vec<(String, i64)>, i64), Vec<i64>>;

fn decode(gzip: &[u8]) -> Profile {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut bytes).unwrap();
    Profile::decode(&bytes[..]).unwrap()
}

fn samples(profile: &Profile) -> Samples {
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let mut samples = Samples::new();
    for sample in &profile.sample {
        let mut stack = Vec::new();
        for id in &sample.location_id {
            let location = profile.location.iter().find(|l| l.id == *id).unwrap();
            for line in &location.line {
                let function = profile.function.iter().find(|f| f.id == line.function_id).unwrap();
                stack.push((without_type_arguments(text(function.name)), line.line));
            }
        }
        let size = sample.label.iter().find(|l| text(l.key) == "bytes").map_or(0, |l| l.num);
        let held = samples.entry((stack, size)).or_insert_with(|| vec![0; sample.value.len()]);
        held.iter_mut().zip(&sample.value).for_each(|(sum, value)| *sum += value);
    }
    // Go writes buckets that hold nothing yet.
    samples.retain(|_, values| values.iter().any(|value| *value != 0));
    samples
}

/// `f[go.shape.int]` as `f[...]`: from 1.21 on runtime/pprof writes the whole name, where tracebacks and tracer do not.
fn without_type_arguments(name: &str) -> String {
    match (name.find('['), name.rfind(']')) {
        (Some(from), Some(to)) if from < to => format!("{}[...]{}", &name[..from], &name[to + 1..]),
        _ => name.to_owned(),
    }
}

fn kinds(profile: &Profile) -> Vec<(&str, &str)> {
    let text = |index: i64| profile.string_table[index as usize].as_str();
    profile.sample_type.iter().map(|t| (text(t.r#type), text(t.unit))).collect()
}

/// The body of a GET, by a connection that ends with it.
fn get(address: &str, path: &str) -> Vec<u8> {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let body = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a header");
    assert!(answer.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&answer[..body]));
    answer.split_off(body + 4)
}

fn tracer_profile(pid: u32, file: &Path, arguments: &[&str]) {
    let (pid, file) = (pid.to_string(), file.to_string_lossy());
    let fixed = ["--pid", &pid, "--duration", "1s", "-o", &file];
    let ended = Tracer::start(fixed.iter().chain(arguments)).wait(END);
    assert!(ended.success().stdout.is_empty());
}

fn go_pprof(arguments: &[&str]) -> String {
    let demo = Go::demo();
    let output = go::command(demo.pin.version).args(["tool", "pprof"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Bytes between two samples where a program does not say.
const DEFAULT_RATE: u64 = 524_288;

/// What a profile says of sampled objects is their number times a factor, cut to a whole number by both sides alike. Both work the
/// factor out from 1 - exp(-size/rate), each with an exponential of its own, whose last bits may differ: the same on both sides,
/// unless the product is this near a whole number. That it may be one off there is all that is not exact.
fn may_be_cut_otherwise(value: i64, factor: f64) -> bool {
    let product = (value as f64 / factor).round() * factor;
    (product - product.round()).abs() <= 1e-10 * product.max(1.0)
}

#[test]
fn one_off_passes_next_to_a_whole_number_only() {
    let scale = |size: f64| 1.0 / (1.0 - (-size / DEFAULT_RATE as f64).exp());
    // One object of 1 024 bytes stands for 512.5002, one of 40 960 for 13.3065 or 545 034.64 bytes.
    for (value, factor) in
        [(512, scale(1024.0)), (13, scale(40_960.0)), (545_034, 40_960.0 * scale(40_960.0))]
    {
        assert!(!may_be_cut_otherwise(value, factor), "{value} {factor}");
    }
    for value in [2_000_000, 1_999_999] {
        assert!(may_be_cut_otherwise(value, 20_000.0 - 1e-9), "{value}");
    }
}

/// Fails unless both have the same stacks with the same figures. True where no figure is one off.
fn assert_same(ours: &Samples, theirs: &Samples, rate: u64, what: &str) -> bool {
    let only = |a: &Samples, b: &Samples| -> Vec<String> {
        a.iter().filter(|(key, _)| !b.contains_key(*key)).map(|sample| format!("{sample:?}")).collect()
    };
    let (more, missing) = (only(ours, theirs), only(theirs, ours));
    assert!(more.is_empty() && missing.is_empty(), "{what}: ours only {more:#?}, theirs {missing:#?}");
    let mut same = true;
    for (key, values) in theirs {
        let (size, told) = (key.1 as f64, &ours[key]);
        let scale = if rate == 1 { 1.0 } else { 1.0 / (1.0 - (-size / rate as f64).exp()) };
        for ((a, b), each) in values.iter().zip(told).zip([1.0, size, 1.0, size]) {
            same &= a == b;
            let near = rate > 1 && (a - b).abs() == 1 && may_be_cut_otherwise(*a.max(b), scale * each);
            assert!(a == b || near, "{what}: {key:?}: ours {told:?}, theirs {values:?}");
        }
    }
    same
}

/// Merged by pprof itself, nothing is left either way round: functions, lines, addresses and mappings are the same.
fn assert_nothing_left(ours: &str, theirs: &str, what: &str) {
    for index in ["inuse_space", "inuse_objects", "alloc_space", "alloc_objects"] {
        let by = format!("-sample_index={index}");
        for (base, profile) in [(theirs, ours), (ours, theirs)] {
            let top = go_pprof(&["-top", &by, "-base", base, profile]);
            assert!(top.contains("nodes accounting for 0, 0% of"), "{what} {by} -base {base}: {top}");
        }
        // There is something that could be left.
        let top = go_pprof(&["-top", &by, ours]);
        assert!(top.contains("main.keepLarge"), "{what} {index}: {top}");
    }
    let top = go_pprof(&["-top", "-sample_index=inuse_space", "-diff_base", theirs, ours]);
    assert!(top.contains("nodes accounting for 0, 0% of"), "{what}: {top}");
}

#[test]
fn a_heap_profile_is_the_endpoints() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let scratch = Scratch::new("pprof-heap");
    for (go, mode) in every_version() {
        // Every sample, many, and as programs have it; the last in every Go, as each has code of its own for what it samples.
        let others = matrix().contains(&(go.clone(), mode));
        let rates = if others { &[1, 4096, DEFAULT_RATE][..] } else { &[DEFAULT_RATE] };
        for rate in rates.iter().copied() {
            let what = format!("go{} {} rate {rate}", go.pin.version, mode.name());
            let mut program = std::process::Command::new(go.build("profile", mode));
            // The default is what a program has that says nothing.
            if rate != DEFAULT_RATE {
                program.env("PROFILE_RATE", rate.to_string());
            }
            let mut target = Target::start_command(&mut program);
            let address = target.ask("address").as_str().unwrap().to_owned();
            target.ask("run 2000");
            target.ask("drop");
            target.ask("run 1000");
            // The first request makes what serving needs; the second tells. No other collection runs until we have read.
            get(&address, "/debug/pprof/heap?gc=1");
            let their_file = scratch.path().join("theirs.pb.gz");
            let theirs = get(&address, "/debug/pprof/heap?gc=1");
            std::fs::write(&their_file, &theirs).unwrap();
            let our_file = scratch.path().join("ours.pb.gz");
            tracer_profile(target.pid(), &our_file, &["--sampler", "runtime"]);
            let (ours, theirs) = (decode(&std::fs::read(&our_file).unwrap()), decode(&theirs));
            let mut order = vec![("alloc_objects", "count"), ("alloc_space", "bytes")];
            order.extend([("inuse_objects", "count"), ("inuse_space", "bytes")]);
            assert_eq!(kinds(&ours), order, "{what}");
            assert_eq!(kinds(&theirs), order, "{what}");
            assert_eq!((ours.period, ours.period), (theirs.period, i64::try_from(rate).unwrap()), "{what}");
            let (ours, theirs) = (samples(&ours), samples(&theirs));
            // At the default rate the small sites are rarely met; one has 40 KB objects.
            let least = if rate == DEFAULT_RATE { 1 } else { 11 };
            assert!(theirs.len() >= least, "{what}: {}", theirs.len());
            let same = assert_same(&ours, &theirs, rate, &what);
            let (ours, theirs) = (our_file.to_str().unwrap(), their_file.to_str().unwrap());
            if same {
                assert_nothing_left(ours, theirs, &what);
            }
            if rate != DEFAULT_RATE {
                let top = go_pprof(&["-top", "-sample_index=inuse_objects", ours]);
                assert!(top.contains("main.keepNode"), "{top}");
            }
            let raw = go_pprof(&["-raw", ours]);
            assert!(raw.contains("inuse_space/bytes[dflt]"), "{raw}");
        }
    }
}

/// Two views of one profile: as of the last GC, and what was allocated since. The target's own account has both once it
/// has collected again; nothing that the sites keep is freed.
#[test]
fn what_was_allocated_since_the_last_gc_is_told_beside_what_lived_then() {
    live!();
    let scratch = Scratch::new("pprof-since");
    for (go, mode) in matrix() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let mut command = std::process::Command::new(go.build("profile", mode));
        let mut target = Target::start_command(command.env("PROFILE_RATE", "1"));
        target.ask("run 300");
        target.ask("gc");
        target.ask("run 70");
        let pid = target.pid().to_string();
        let read = |arguments: &[&str]| {
            let fixed = ["heap", "--pid", &pid];
            Tracer::run(&[&fixed, arguments].concat(), END).success()
        };
        let report = read(&["--format", "json"]).json();
        let text = read(&["--by", "site"]).stdout;
        let file = scratch.file("heap.pb.gz");
        assert!(read(&["-o", file.to_str().unwrap()]).stdout.is_empty());
        target.ask("gc");
        let records = target.ask("records");
        let truth = |function: &str, size: u64| -> u64 {
            let of = list(&records, "").iter().filter(|r| {
                list(r, "/Functions").iter().any(|f| f == function)
                    && number(r, "/AllocBytes") == size * number(r, "/Allocs")
            });
            of.map(|r| number(r, "/Allocs")).sum()
        };
        assert_eq!(truth("main.keepNode", 48), 370, "{what}: {records}");
        let rows = list(&report, "/allocations");
        let row =
            rows.iter().find(|row| row.pointer("/stack/0/function").is_some_and(|f| f == "main.keepNode"));
        let row = row.unwrap_or_else(|| panic!("{what}: {report:#}"));
        let both = |figure: &str| [number(row, "/live/objects"), number(row, figure)];
        assert_eq!(both("/allocated_since_gc/objects"), [300, 70], "{what}: {row:#}");
        assert_eq!(number(row, "/allocated_since_gc/bytes"), 70 * 48, "{what}");
        assert_eq!(number(row, "/allocated/objects"), truth("main.keepNode", 48), "{what}");
        // As text: 300 of 40 960 bytes lived, and 70 came since.
        assert!(text.contains("garbage included"), "{what}: {text}");
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.contains("main.keepLarge")).expect("its line");
        let told = lines[at..lines.len().min(at + 2)].join(" ");
        assert!(told.contains(" 12 MiB") && told.contains("(+2.7 MiB since)"), "{what}: {text}");
        // As a profile: the samples are as of the GC, and a comment says what is not in them.
        let profile = decode(&std::fs::read(&file).unwrap());
        let of_nodes = samples(&profile)
            .into_iter()
            .filter(|((stack, size), _)| stack[0].0 == "main.keepNode" && *size == 48);
        let values: Vec<Vec<i64>> = of_nodes.map(|(_, values)| values).collect();
        assert_eq!(values, [[300, 300 * 48, 300, 300 * 48]], "{what}");
        let comments: Vec<&str> =
            profile.comment.iter().map(|at| profile.string_table[*at as usize].as_str()).collect();
        assert!(comments.iter().any(|c| c.starts_with("as of the last completed GC")), "{comments:?}");
        let total = &report["heap_profile"]["allocated_since_gc"];
        let least = number(total, "/objects");
        assert!(least >= 4 * 70, "{what}: {total}");
        let since = comments.iter().find(|c| c.contains("since that GC")).expect("a comment");
        assert!(since.contains("in no figure here: ") && since.ends_with(" objects"), "{since}");
    }
}

#[test]
fn counted_allocations_have_no_inuse_types() {
    live!();
    let scratch = Scratch::new("pprof-all");
    let mut target = Target::start(&Go::demo().build("profile", Mode::Ordinary));
    let file = scratch.file("all.pprof");
    let arguments = ["--sampler", "all", "-o", file.to_str().unwrap()];
    let tracer = Tracer::attach(target.pid(), &arguments);
    target.ask("run 500");
    assert!(tracer.interrupt().success().stdout.is_empty());
    let profile = decode(&std::fs::read(&file).unwrap());
    assert_eq!(kinds(&profile), [("alloc_objects", "count"), ("alloc_space", "bytes")]);
    let large = |samples: &Samples| -> i64 {
        let of = samples.iter().filter(|((stack, _), _)| stack[0].0 == "main.keepLarge");
        // 40 000 bytes are 40 960; the list that keeps them grows at the same place.
        of.map(|(_, values)| values[0]).sum()
    };
    assert!(large(&samples(&profile)) >= 500, "{:?}", samples(&profile));
    let top = go_pprof(&["-top", "-sample_index=alloc_objects", file.to_str().unwrap()]);
    assert!(top.contains("main.keepNode"), "{top}");
    // Asked for what is not known: refused, not made up.
    let refused = Tracer::run(
        &[
            "--pid",
            &target.pid().to_string(),
            "--sampler",
            "all",
            "--duration",
            "1s",
            "--profile",
            "inuse_space",
        ]
        .iter()
        .chain(&["--format", "folded"])
        .copied()
        .collect::<Vec<_>>(),
        END,
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("--sampler runtime"), "{refused:?}");
}

#[test]
fn a_goroutine_profile_counts_them() {
    live!();
    let scratch = Scratch::new("pprof-goroutines");
    let mut target = Target::start(&Go::demo().build("profile", Mode::StrippedPie));
    target.ask("run 1");
    let file = scratch.file("g.pb.gz");
    let pid = target.pid().to_string();
    let ended = Tracer::run(
        &["goroutines", "--pid", &pid, "--profile", "goroutine", "-o", file.to_str().unwrap()],
        END,
    );
    assert!(ended.success().stdout.is_empty());
    let profile = decode(&std::fs::read(&file).unwrap());
    assert_eq!(kinds(&profile), [("goroutine", "count")]);
    let samples = samples(&profile);
    let accepts =
        samples.iter().filter(|((stack, _), _)| stack.iter().any(|(f, _)| f == "net/http.(*Server).Serve"));
    assert_eq!(accepts.map(|(_, values)| values[0]).sum::<i64>(), 1, "{samples:?}");
    assert!(go_pprof(&["-top", file.to_str().unwrap()]).contains("net/http.(*Server).Serve"));
}

#[test]
fn a_program_without_the_profiler_is_refused_or_read_otherwise() {
    live!();
    for (go, mode) in matrix() {
        let target = Target::start(&go.build("allocs", mode));
        let pid = target.pid().to_string();
        let refused = Tracer::run(&["--pid", &pid, "--sampler", "runtime"], END)
            .refused(&["--sampler sampled", "memory profile is off"]);
        assert!(refused.stdout.is_empty());
        let report =
            Tracer::run(&["--pid", &pid, "--duration", "1s", "--format", "json"], END).success().json();
        assert_eq!(report["session"]["sampler"], "none");
        assert!(report["session"]["sampler_reason"].as_str().unwrap().contains("memory profile is off"));
        assert!(report.get("heap_profile").is_none() && report.get("allocations").is_none());
    }
}
