//! Names, places and probe sites read from real Go executables, against what Go itself says about them.
//!
//! Apart from the unit tests because the truth here is independent: `go tool nm`, `go tool addr2line`, and the
//! program's own account of its stacks and types. Nothing is attached and no root is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tracer_tests::image::{image, open};
use tracer_tests::{go, live};
use tracer_user::binary::x86::{Emulates, SiteKind};
use tracer_user::goruntime::code::hooks;
use tracer_user::goruntime::code::recipes::RuntimeVars;
use tracer_user::goruntime::code::sites::{ProbeSite, probe_site};
use tracer_user::goruntime::names::inlining::PcKind;
use tracer_user::goruntime::{GoError, GoImage};
use tracer_user::memory::{FaultKind, ReadAt, ReadFault};
use tracer_user::units::{FileOffset, ImageAddr};

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
        Self { version, args: &[], cgo: false }
    }

    fn pie(version: &'static str) -> Self {
        Self { version, args: &["-buildmode=pie"], cgo: false }
    }

    /// Every version, position dependent and independent.
    fn matrix() -> impl Iterator<Item = Self> {
        VERSIONS.into_iter().flat_map(|v| [Self::plain(v), Self::pie(v)])
    }

    /// The built program; `None` (said on stderr) where this toolchain cannot be had.
    fn build(self) -> PathBuf {
        let Self { version, args, cgo } = self;
        let tag: String = args.concat().chars().filter(char::is_ascii_alphanumeric).collect();
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("names-{version}-{tag}-{cgo}"));
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/go/names");
        let status = go::command(version)
            .env("CGO_ENABLED", if cgo { "1" } else { "0" })
            .current_dir(fixture)
            .args(["build", "-o"])
            .arg(&out)
            .args(args)
            .arg(".")
            .status()
            .expect("go runs");
        assert!(status.success(), "go build of {self:?}");
        out
    }
}

/// A copy without symbol table, as strip(1) makes it: every address stays.
fn stripped(path: &Path) -> PathBuf {
    let out = path.with_extension("stripped");
    let status = Command::new("strip").arg("-o").arg(&out).arg(path).status().expect("strip runs");
    assert!(status.success());
    out
}

/// `go tool nm`: name to address. Names that occur twice are left out.
fn symbols(version: &str, path: &Path) -> BTreeMap<String, u64> {
    let output = go::command(version).args(["tool", "nm"]).arg(path).output().expect("go tool nm runs");
    assert!(output.status.success());
    let mut symbols = BTreeMap::new();
    let mut twice = BTreeSet::new();
    for line in String::from_utf8(output.stdout).expect("nm prints text").lines() {
        let mut words = line.split_whitespace();
        let (Some(addr), Some(_kind)) = (words.next(), words.next()) else {
            continue;
        };
        let name = words.collect::<Vec<_>>().join(" ");
        let Ok(addr) = u64::from_str_radix(addr, 16) else {
            continue;
        };
        if symbols.insert(name.clone(), addr).is_some_and(|a| a != addr) {
            twice.insert(name);
        }
    }
    symbols.retain(|name, _| !twice.contains(name));
    symbols
}

#[test]
fn what_a_build_is() {
    live!(Go);
    for build in Build::matrix() {
        let path = build.build();
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
    live!(Go);
    let why = |path: &str| match open(Path::new(path)) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("{path} is no Go program"),
    };
    assert!(why("/bin/sh").contains("no Go build information"));
    assert!(why("/etc/passwd").contains("not an ELF file"));
}

#[test]
fn functions_equal_the_symbol_table() {
    live!(Go);
    for build in Build::matrix() {
        let path = build.build();
        let symbols = symbols(build.version, &path);
        let image = image(&stripped(&path));
        let (mut all, mut compared) = (0, 0);
        for f in image.functions() {
            all += 1;
            assert!(f.entry <= f.end, "{f:?}");
            // Wrappers for assembly callers have their function's name; `nm` adds a suffix.
            let names = [f.name.clone(), format!("{}.abi0", f.name)];
            let known: Vec<u64> = names.iter().filter_map(|n| symbols.get(n).copied()).collect();
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
        assert!(compared > 2000 && compared * 20 > all * 19, "{compared} of {all} names compared");
        assert_eq!(image.function("runtime.nosuch"), None);
    }
}

#[test]
fn lines_equal_addr2line() {
    live!(Go);
    for build in [Build::plain("1.22.10"), Build::plain("1.26.8"), Build::pie("1.27.3")] {
        let path = build.build();
        let image = image(&path);
        let functions: Vec<_> = image.functions().collect();
        let pcs: Vec<u64> = functions
            .iter()
            .step_by(7)
            .flat_map(|f| [f.entry.0, f.entry.0 + (f.end.0 - f.entry.0) / 2])
            .collect();
        let mut tool = go::command(build.version)
            .args(["tool", "addr2line"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("go tool addr2line runs");
        let text = pcs.iter().fold(String::new(), |text, pc| text + &format!("{pc:#x}\n"));
        let mut stdin = tool.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, text.as_bytes()));
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
    live!(Go);
    for build in Build::matrix() {
        let path = build.build();
        let output = Command::new(&path).output().expect("the fixture runs");
        assert!(output.status.success());
        let output = String::from_utf8(output.stdout).expect("text");
        let image = image(&stripped(&path));
        let anchor = image.function("main.anchor").expect("main.anchor").entry.0;
        let address =
            |distance: &str| ImageAddr(anchor.wrapping_add_signed(distance.parse().expect("a distance")));
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
                    assert_eq!((t.name.as_str(), t.size.0.to_string().as_str()), (name, size));
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
    live!(Go);
    for build in Build::matrix() {
        let path = build.build();
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
            m_prof_cycle,
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
            ("mProfCycle", m_prof_cycle),
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
    all.extend(hooks::map_growth_hooks(image).hooks);
    all.extend(hooks::goroutine_hooks(image).hooks);
    all.iter().map(|h| probe_site(image, h, emulates).unwrap_or_else(|e| panic!("{e}"))).collect()
}

#[test]
fn every_hook_has_a_site() {
    live!(Go);
    for build in Build::matrix() {
        let path = build.build();
        let image = image(&stripped(&path));
        for emulates in [NEW_KERNEL, OLD_KERNEL] {
            let sites = sites(&image, emulates);
            let of = |part: &str| sites.iter().filter(|s| s.function.contains(part)).count();
            let allocs = if build.version.starts_with("1.27") { 18 } else { 1 };
            let all = [of("runtime.mallocgc"), of("runtime.mapassign"), of("newproc1"), of("gdestroy")];
            assert_eq!(all, [allocs, 5, 1, 1], "{sites:#?}");
            // From go1.24 on one method deletes and two calls make room; before, a function for each family of keys that
            // is linked, and one.
            if build.version.starts_with("1.22") {
                assert!(of("runtime.mapdelete") >= 2 && of("runtime.hashGrow") == 1, "{sites:#?}");
            } else {
                let maps = [of("(*Map).Delete"), of("(*table).rehash"), of("(*Map).growToTable")];
                assert_eq!(maps, [1, 1, 1], "{sites:#?}");
                assert_eq!(sites.len(), allocs + 5 + 2 + 3, "{sites:#?}");
            }
            for s in &sites {
                assert!(s.offset > 0, "{s:?} is the entry");
                assert!(emulates.long_nops || !s.instruction.eq(&SiteKind::Nop5), "{s:?}");
            }
        }
    }
}

/// Offsets read by hand from disassembly, per version: kernels before 6.18, and since.
#[test]
fn sites_are_where_they_were_read_by_hand() {
    use SiteKind::{Nop, Push};
    type Row = (&'static str, u64, SiteKind, u64, SiteKind);
    live!(Go);
    let expected: [(&str, &[Row]); 3] = [
        (
            "1.22.10",
            &[
                ("runtime.mallocgc", 0xa, Push, 0xa, Push),
                ("runtime.mapassign", 0xa, Push, 0xa, Push),
                ("runtime.mapassign_faststr", 0xa, Push, 0xa, Push),
                ("runtime.newproc1", 0xa, Push, 0xa, Push),
                ("runtime.gdestroy", 0xa, Push, 0xa, Push),
            ],
        ),
        (
            "1.26.8",
            &[
                ("runtime.mallocgc", 0xa, Push, 0xa, Push),
                ("runtime.mapassign", 0xf, Push, 0x1a, Nop),
                ("runtime.mapassign_faststr", 0xf, Push, 0xf, Push),
                ("runtime.newproc1", 0xa, Push, 0xa, Push),
                ("runtime.gdestroy", 0xa, Push, 0xa, Push),
            ],
        ),
        (
            "1.27.3",
            &[
                ("runtime.mallocgcTinySC2", 0x16, Nop, 0x16, Nop),
                ("runtime.mallocgcSmallScanNoHeaderSC7", 0x16, Nop, 0x16, Nop),
                ("runtime.mallocgcLarge", 0x16, Nop, 0x16, Nop),
                ("runtime.mapassign_faststr", 0xf, Push, 0xf, Push),
                ("runtime.newproc1", 0xa, Push, 0xa, Push),
                ("runtime.gdestroy", 0xa, Push, 0xa, Push),
            ],
        ),
    ];
    for (version, rows) in expected {
        let path = Build::plain(version).build();
        let image = image(&path);
        for (function, old_offset, old_kind, new_offset, new_kind) in rows {
            for (emulates, offset, kind) in
                [(OLD_KERNEL, old_offset, old_kind), (NEW_KERNEL, new_offset, new_kind)]
            {
                let sites = sites(&image, emulates);
                let site = sites.iter().find(|s| s.function == *function).expect("a site");
                assert_eq!((site.offset, site.instruction), (*offset, *kind), "{version} {function}");
                assert_eq!(site.caller_at_sp, site.instruction == Push, "{version} {function}");
                let code = std::fs::read(&path).expect("reads");
                let at = site.file_offset.0 as usize;
                assert_eq!(code[at..at + site.bytes.len()], site.bytes, "{version} {function}");
            }
        }
    }
}

#[test]
fn the_race_detector_and_cgo_change_the_set() {
    live!(Go);
    let race = Build { version: "1.27.3", args: &["-race"], cgo: true };
    let cgo =
        Build { version: "1.26.8", args: &["-buildmode=pie", "-ldflags=-linkmode=external"], cgo: true };
    for (build, is_race) in [(race, true), (cgo, false)] {
        let path = build.build();
        let image = image(&stripped(&path));
        assert!(image.is_cgo());
        assert_eq!((image.is_race(), image.is_pie()), (is_race, !is_race));
        RuntimeVars::find(&image).expect("all recipes hold");
        let set = hooks::alloc_hooks(&image);
        assert_eq!(set.hooks.len(), 1, "{set:?}");
        assert_eq!((set.hooks[0].function.as_str(), set.inlined.len()), ("runtime.mallocgc", 0));
        assert_eq!(sites(&image, OLD_KERNEL).len(), 11);
    }
}

/// A file in memory, some bytes of it replaced.
struct Patched {
    file: Arc<Vec<u8>>,
    patches: Vec<(usize, u8)>,
}

impl ReadAt<FileOffset> for Patched {
    fn read(&self, addr: FileOffset, buf: &mut [u8]) -> Result<(), ReadFault> {
        let fault = ReadFault { addr: addr.0, len: buf.len(), kind: FaultKind::Unmapped };
        let from = usize::try_from(addr.0).ok().ok_or(fault)?;
        let to = from.checked_add(buf.len()).ok_or(fault)?;
        buf.copy_from_slice(self.file.get(from..to).ok_or(fault)?);
        for (at, byte) in &self.patches {
            if (from..to).contains(at) {
                buf[at - from] = *byte;
            }
        }
        Ok(())
    }
}

fn patched(file: &Arc<Vec<u8>>, patches: Vec<(usize, u8)>) -> Result<GoImage, GoError> {
    GoImage::open(Box::new(Patched { file: Arc::clone(file), patches }), file.len() as u64)
}

#[test]
fn a_file_without_section_headers_reads_the_same() {
    live!(Go);
    for build in Build::matrix() {
        let path = build.build();
        let whole = image(&path);
        let file = Arc::new(std::fs::read(&path).expect("reads"));
        // e_shoff and e_shnum.
        let patches = (40..48).chain(60..62).map(|at| (at, 0)).collect();
        let bare = patched(&file, patches).unwrap_or_else(|e| panic!("{build:?}: {e}"));
        assert!(bare.elf().sections().is_empty());
        assert_eq!(bare.module(), whole.module(), "{build:?}");
        assert_eq!(bare.functions().count(), whole.functions().count());
        assert_eq!(RuntimeVars::find(&bare), RuntimeVars::find(&whole));
    }
}

/// xorshift64: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn a_damaged_file_is_refused_or_read_but_never_panics() {
    live!(Go);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for build in [Build::plain("1.22.10"), Build::pie("1.26.8"), Build::pie("1.27.3")] {
        let path = build.build();
        let file = Arc::new(std::fs::read(stripped(&path)).expect("reads"));
        let whole = patched(&file, Vec::new()).expect("reads");
        let elf = whole.elf();
        let module = whole.module();
        let mallocgc = whole.function("runtime.mallocgc").expect("linked").entry;
        // The places where damage hurts, and how much of each is damaged.
        let regions: Vec<(usize, usize)> = [
            (Some(FileOffset(0)), 0x400),
            (elf.file_offset(module.pclntab), 0x48),
            (elf.file_offset(module.pclntab), module.pclntab_len as usize),
            (elf.file_offset(module.address), 0x250),
            (elf.file_offset(module.gofunc), 0x4000),
            (elf.file_offset(module.types.start), 0x4000),
            (elf.file_offset(mallocgc), 0x400),
            (Some(FileOffset(file.len() as u64 - 0x1000)), 0x1000),
        ]
        .into_iter()
        .map(|(at, len)| (at.expect("in the file").0 as usize, len))
        .collect();
        let (mut refused, mut read) = (0, 0);
        for round in 0..160 {
            let (at, len) = regions[round % regions.len()];
            let count = 1 + random.below(12);
            let patches = (0..count).map(|_| (at + random.below(len), random.below(256) as u8)).collect();
            let Ok(image) = patched(&file, patches) else {
                refused += 1;
                continue;
            };
            read += 1;
            drop(RuntimeVars::find(&image));
            for set in [hooks::alloc_hooks(&image), hooks::map_hooks(&image), hooks::goroutine_hooks(&image)]
            {
                for hook in &set.hooks {
                    drop(probe_site(&image, hook, NEW_KERNEL));
                }
            }
            for _ in 0..200 {
                let pc = ImageAddr(module.text.start.0 + random.below(0x20_0000) as u64);
                drop(image.frames_at(pc, PcKind::Return));
                let t = ImageAddr(module.types.start.0 + 8 * random.below(0x800) as u64);
                drop(image.type_info(t));
            }
        }
        assert!(refused > 10 && read > 10, "{refused} refused, {read} read");
    }
}
