//! Names, places and probe sites read from real Go executables, against what Go itself says about them.
//!
//! Apart from the unit tests because the truth here is independent: `go tool nm`, `go tool addr2line`, and the
//! program's own account of its stacks and types. Nothing is attached and no root is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tracer_user::binary::file::FileBytes;
use tracer_user::binary::x86::{Emulates, SiteKind};
use tracer_user::goruntime::code::hooks;
use tracer_user::goruntime::code::recipes::RuntimeVars;
use tracer_user::goruntime::code::sites::{ProbeSite, probe_site};
use tracer_user::goruntime::names::inlining::PcKind;
use tracer_user::goruntime::{GoError, GoImage};
use tracer_user::units::ImageAddr;

const VERSIONS: [&str; 3] = ["1.22.10", "1.26.8", "1.27.3"];
const NEW_KERNEL: Emulates = Emulates { long_nops: true };
const OLD_KERNEL: Emulates = Emulates { long_nops: false };

/// One way to build the fixture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Build {
    version: &'static str,
    args: &'static [&'static str],
    cgo: bool,
}

impl Build {
    fn plain(version: &'static str) -> Self {
        Self {
            version,
            args: &[],
            cgo: false,
        }
    }

    fn pie(version: &'static str) -> Self {
        Self {
            version,
            args: &["-buildmode=pie"],
            cgo: false,
        }
    }

    /// Every version, position dependent and independent.
    fn matrix() -> impl Iterator<Item = Self> {
        VERSIONS
            .into_iter()
            .flat_map(|v| [Self::plain(v), Self::pie(v)])
    }

    /// The built program; `None` (said on stderr) where this toolchain cannot be had.
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn build(self) -> Option<PathBuf> {
        let Self { version, args, cgo } = self;
        let have = go(version).arg("version").stderr(Stdio::null()).output();
        if !have.is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: no Go {version} toolchain");
            return None;
        }
        let tag: String = args
            .concat()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let out =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("names-{version}-{tag}-{cgo}"));
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/go/names");
        let status = go(version)
            .env("CGO_ENABLED", if cgo { "1" } else { "0" })
            .current_dir(fixture)
            .args(["build", "-o"])
            .arg(&out)
            .args(args)
            .arg(".")
            .status()
            .expect("go runs");
        assert!(status.success(), "go build of {self:?}");
        Some(out)
    }
}

fn go(version: &str) -> Command {
    let mut go = Command::new("go");
    go.env("GOTOOLCHAIN", format!("go{version}"))
        .env("GOFLAGS", "");
    go
}

fn open(path: &Path) -> Result<GoImage, GoError> {
    let file = FileBytes::new(File::open(path).expect("the built program opens"));
    let len = file.len().expect("has a length");
    GoImage::open(Box::new(file), len)
}

fn image(path: &Path) -> GoImage {
    open(path).expect("a Go image")
}

/// A copy without symbol table, as strip(1) makes it: every address stays.
fn stripped(path: &Path) -> PathBuf {
    let out = path.with_extension("stripped");
    let status = Command::new("strip")
        .arg("-o")
        .arg(&out)
        .arg(path)
        .status()
        .expect("strip runs");
    assert!(status.success());
    out
}

/// `go tool nm`: name to address. Names that occur twice are left out.
fn symbols(version: &str, path: &Path) -> BTreeMap<String, u64> {
    let output = go(version)
        .args(["tool", "nm"])
        .arg(path)
        .output()
        .expect("go tool nm runs");
    assert!(output.status.success());
    let mut symbols = BTreeMap::new();
    let mut twice = BTreeSet::new();
    for line in String::from_utf8(output.stdout)
        .expect("nm prints text")
        .lines()
    {
        let mut words = line.split_whitespace();
        let (Some(addr), Some(_kind)) = (words.next(), words.next()) else {
            continue;
        };
        let name = words.collect::<Vec<_>>().join(" ");
        let Ok(addr) = u64::from_str_radix(addr, 16) else {
            continue;
        };
        if symbols
            .insert(name.clone(), addr)
            .is_some_and(|a| a != addr)
        {
            twice.insert(name);
        }
    }
    symbols.retain(|name, _| !twice.contains(name));
    symbols
}

#[test]
fn what_a_build_is() {
    for build in Build::matrix() {
        let Some(path) = build.build() else { continue };
        let image = image(&path);
        assert_eq!(image.version().to_string(), format!("go{}", build.version));
        assert_eq!(image.main_module(), Some("example.com/names"));
        assert_eq!(image.is_pie(), !build.args.is_empty());
        assert!(!image.is_stripped() && !image.is_cgo() && !image.is_race());
        assert!(image.build_id().is_some_and(|id| !id.is_empty()));
        let stripped = self::image(&stripped(&path));
        assert!(stripped.is_stripped());
        assert_eq!(stripped.build_id(), image.build_id());
    }
}

#[test]
fn what_is_no_go_program() {
    let why = |path: &str| match open(Path::new(path)) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("{path} is no Go program"),
    };
    assert!(why("/bin/sh").contains("no Go build information"));
    assert!(why("/etc/passwd").contains("not an ELF file"));
}

#[test]
fn functions_equal_the_symbol_table() {
    for build in Build::matrix() {
        let Some(path) = build.build() else { continue };
        let symbols = symbols(build.version, &path);
        let image = image(&stripped(&path));
        let (mut all, mut compared) = (0, 0);
        for f in image.functions() {
            all += 1;
            assert!(f.entry <= f.end, "{f:?}");
            // Wrappers for assembly callers have their function's name; `nm` adds a suffix.
            let names = [f.name.clone(), format!("{}.abi0", f.name)];
            let known: Vec<u64> = names
                .iter()
                .filter_map(|n| symbols.get(n).copied())
                .collect();
            if !known.is_empty() {
                assert!(known.contains(&f.entry.0), "{f:?} {known:x?}");
                compared += 1;
            }
            if let Some(first) = image.function(&f.name)
                && first.entry == f.entry
            {
                assert_eq!(first, f);
                assert_eq!(image.function_at(ImageAddr(f.end.0 - 1)), Some(f));
            }
        }
        assert!(
            compared > 2000 && compared * 20 > all * 19,
            "{compared} of {all} names compared"
        );
        assert_eq!(image.function("runtime.nosuch"), None);
    }
}

#[test]
fn lines_equal_addr2line() {
    for build in [
        Build::plain("1.22.10"),
        Build::plain("1.26.8"),
        Build::pie("1.27.3"),
    ] {
        let Some(path) = build.build() else { continue };
        let image = image(&path);
        let functions: Vec<_> = image.functions().collect();
        let pcs: Vec<u64> = functions
            .iter()
            .step_by(7)
            .flat_map(|f| [f.entry.0, f.entry.0 + (f.end.0 - f.entry.0) / 2])
            .collect();
        let mut tool = go(build.version)
            .args(["tool", "addr2line"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("go tool addr2line runs");
        let text = pcs
            .iter()
            .fold(String::new(), |text, pc| text + &format!("{pc:#x}\n"));
        let mut stdin = tool.stdin.take().expect("a pipe");
        let writer =
            std::thread::spawn(move || std::io::Write::write_all(&mut stdin, text.as_bytes()));
        let output = tool.wait_with_output().expect("addr2line ends");
        writer.join().expect("writes").expect("writes");
        let output = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), pcs.len() * 2);
        let mut compared = 0;
        for (pc, pair) in pcs.iter().zip(lines.chunks(2)) {
            let frames = image.frames_at(ImageAddr(*pc), PcKind::Exact);
            let (inner, outer) = (&frames[0], &frames[frames.len() - 1]);
            let printed = |name: &str| name.split('[').next().map(str::to_owned);
            assert_eq!(printed(&outer.function), printed(pair[0]), "{pc:#x}");
            if !["?:0", ":-1"].contains(&pair[1]) {
                assert_eq!(format!("{}:{}", inner.file, inner.line), pair[1], "{pc:#x}");
                compared += 1;
            }
        }
        assert!(compared > 500, "only {compared} lines compared");
    }
}

#[test]
fn stacks_and_types_equal_the_programs_own_account() {
    for build in Build::matrix() {
        let Some(path) = build.build() else { continue };
        let output = Command::new(&path).output().expect("the fixture runs");
        assert!(output.status.success());
        let output = String::from_utf8(output.stdout).expect("text");
        let image = image(&stripped(&path));
        let anchor = image.function("main.anchor").expect("main.anchor").entry.0;
        let address = |distance: &str| {
            ImageAddr(anchor.wrapping_add_signed(distance.parse().expect("a distance")))
        };
        let (mut logical, mut physical) = (Vec::new(), Vec::new());
        let (mut stacks, mut types, mut inlined) = (0, 0, 0);
        for line in output.lines().chain(["stack"]) {
            let words: Vec<&str> = line.splitn(5, ' ').collect();
            match words[..] {
                ["frame", function, line, file] => {
                    logical.push(format!("{function} {line} {file}"));
                }
                ["return", distance] => {
                    let frames = image.frames_at(address(distance), PcKind::Return);
                    inlined += frames.iter().filter(|f| f.inlined).count();
                    let named = frames.into_iter().filter(|f| !f.wrapper);
                    physical.extend(named.map(|f| format!("{} {} {}", f.function, f.line, f.file)));
                }
                ["stack"] => {
                    assert_eq!(logical, physical, "{build:?}");
                    stacks += usize::from(!logical.is_empty());
                    (logical, physical) = (Vec::new(), Vec::new());
                }
                ["type", distance, size, kind, name] => {
                    let t = image.type_info(address(distance)).expect(name);
                    assert_eq!(
                        (t.name.as_str(), t.size.0.to_string().as_str()),
                        (name, size)
                    );
                    assert_eq!((t.kind as u8 + 1).to_string(), kind);
                    types += 1;
                }
                _ => panic!("unknown line {line:?}"),
            }
        }
        assert_eq!((stacks, types), (7, 11));
        assert!(inlined >= 14, "only {inlined} inlined frames");
    }
}

#[test]
fn runtime_variables_equal_the_symbol_table() {
    for build in Build::matrix() {
        let Some(path) = build.build() else { continue };
        let symbols = symbols(build.version, &path);
        let vars = RuntimeVars::find(&image(&stripped(&path))).expect("all recipes hold");
        let RuntimeVars {
            memstats,
            gc_controller,
            work,
            mheap,
            allgs,
            allglen,
            allgptr,
            allp,
            sched,
            gcphase,
            gc_blacken_enabled,
            mem_profile_rate,
            mbuckets,
            first_module,
            wait_reason_strings,
        } = vars;
        for (name, addr) in [
            ("memstats", Some(memstats)),
            ("gcController", Some(gc_controller)),
            ("work", Some(work)),
            ("mheap_", Some(mheap)),
            ("allgs", Some(allgs)),
            ("allglen", Some(allglen)),
            ("allgptr", Some(allgptr)),
            ("allp", Some(allp)),
            ("sched", Some(sched)),
            ("gcphase", Some(gcphase)),
            ("gcBlackenEnabled", Some(gc_blacken_enabled)),
            ("MemProfileRate", Some(mem_profile_rate)),
            ("mbuckets", Some(mbuckets)),
            ("firstmoduledata", Some(first_module)),
            ("waitReasonStrings", wait_reason_strings),
        ] {
            let truth = symbols.get(&format!("runtime.{name}")).copied();
            assert_eq!(addr.map(|a| a.0), truth, "{name} in {build:?}");
        }
    }
}

fn sites(image: &GoImage, emulates: Emulates) -> Vec<ProbeSite> {
    let mut all = hooks::alloc_hooks(image).hooks;
    all.extend(hooks::map_hooks(image).hooks);
    all.extend(hooks::goroutine_hooks(image).hooks);
    all.iter()
        .map(|h| probe_site(image, h, emulates).unwrap_or_else(|e| panic!("{e}")))
        .collect()
}

#[test]
fn every_hook_has_a_site() {
    for build in Build::matrix() {
        let Some(path) = build.build() else { continue };
        let image = image(&stripped(&path));
        for emulates in [NEW_KERNEL, OLD_KERNEL] {
            let sites = sites(&image, emulates);
            let allocs = if build.version.starts_with("1.27") {
                18
            } else {
                1
            };
            assert_eq!(sites.len(), allocs + 5 + 2, "{sites:#?}");
            for s in &sites {
                assert!(s.offset > 0, "{s:?} is the entry");
                assert!(
                    emulates.long_nops || !s.instruction.eq(&SiteKind::Nop5),
                    "{s:?}"
                );
            }
        }
    }
}
