//! The layout table as the DWARF of programs built now has it: the text of tracer-user/src/goruntime/layouts.rs.
//!
//! Apart from the test because `cargo xtask layouts` writes what the test compares. Fields, their paths, comments and order are the
//! file's own; every number, the list of versions and the size classes come from the toolchains.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::PathBuf;

use tracer_user::binary::dwarf::Structures;
use tracer_user::binary::elf::Elf;
use tracer_user::binary::file::FileBytes;

use crate::classes;
use crate::go::{Go, Mode, Variant};

/// Where the table is.
pub fn file() -> PathBuf {
    xtask::project::root().join("tracer-user/src/goruntime/layouts.rs")
}

/// The structures of a program by this Go. The fixture refers to what the table speaks of.
pub fn structures(go: &Go, experiment: &'static str) -> Structures {
    let program = go.build("state", Variant { experiment, ..Mode::Ordinary.into() });
    let file = File::open(&program).expect("the fixture is built");
    let len = file.metadata().expect("it is a file").len();
    let bytes = FileBytes::new(file);
    let elf = Elf::read(&bytes, len).expect("go builds ELF files");
    Structures::read(&elf, &bytes, |name| name.starts_with("runtime."))
        .expect("its DWARF is sound")
        .expect("an ordinary build has DWARF")
}

/// The whole file, with every number read anew.
pub fn generate() -> String {
    let every = Go::every();
    let columns: Vec<Structures> = every.iter().map(|go| structures(go, "")).collect();
    let text = fs::read_to_string(file()).expect("the table is there");
    let mut made = String::new();
    let mut classes_follow = false;
    let mut variant_follows = None;
    for line in text.lines() {
        let line = if let Some(variant) = variant_follows {
            if !line.trim_start().starts_with("..row(") {
                continue;
            }
            variant_follows = None;
            format!("{}{line}", variant_lines(variant, &every, &columns, &text))
        } else if let Some(field) = Field::parse(line) {
            field.line(&columns)
        } else if line.trim_start().starts_with("// Columns: ") {
            let minors: Vec<String> = every.iter().map(|go| format!("1.{}", go.pin.minor())).collect();
            format!("    // Columns: {}.", minors.join(", "))
        } else if line.starts_with(VERSIONS) {
            let versions: Vec<&str> = every.iter().map(|go| go.pin.version).collect();
            format!("{VERSIONS}{}.", versions.join(" "))
        } else if let Some(variant) = VARIANTS.iter().find(|variant| {
            line.strip_prefix("pub(super) static ").is_some_and(|rest| rest.starts_with(variant.name))
        }) {
            variant_follows = Some(variant);
            line.to_owned()
        } else if line.starts_with("pub const CLASS_TO_SIZE") {
            classes_follow = true;
            line.to_owned()
        } else if classes_follow {
            if line != "];" {
                continue;
            }
            classes_follow = false;
            format!("{}];", class_lines(&every))
        } else {
            line.to_owned()
        };
        made.push_str(&line);
        made.push('\n');
    }
    assert!(!classes_follow && variant_follows.is_none(), "the file's shape is not the one that is written");
    made
}

const VERSIONS: &str = "//! Go: ";

/// A row for the builds of one Go with an experiment.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its static in the file.
    name: &'static str,
    pub minor: u32,
    pub experiment: &'static str,
    /// A function that these builds alone link from that file: what `Layout::of_variant` asks for.
    pub function: &'static str,
    pub file: &'static str,
}

/// All such rows.
pub const VARIANTS: [Row; 2] = [
    Row {
        name: "NO_ALLOC_HEADERS_22",
        minor: 22,
        experiment: "noallocheaders",
        function: "runtime.heapBitsSetType",
        file: "mbitmap_noallocheaders.go",
    },
    Row {
        name: "GREEN_TEA_25",
        minor: 25,
        experiment: "greenteagc",
        function: "runtime.(*mspan).moveInlineMarks",
        file: "mgcmark_greenteagc.go",
    },
];

/// One field of the table: `    name: type, "path" = [...];`.
struct Field<'a> {
    /// Everything before the numbers.
    head: &'a str,
    path: &'a str,
    optional: bool,
}

impl<'a> Field<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (head, numbers) = line.split_once(" = [")?;
        let (declared, path) = head.split_once(", \"")?;
        let path = path.strip_suffix('"')?;
        let (_, kind) = declared.trim_start().split_once(": ")?;
        (numbers.ends_with("];") && !path.contains('$')).then_some(Self {
            head,
            path,
            optional: kind == "Option<u32>",
        })
    }

    fn line(&self, columns: &[Structures]) -> String {
        let Self { head, path, optional: _ } = *self;
        let numbers: Vec<String> =
            columns.iter().map(|structures| self.number(structures.offset(path))).collect();
        format!("{head} = [{}];", numbers.join(", "))
    }

    fn number(&self, offset: Option<u32>) -> String {
        match (offset, self.optional) {
            (Some(offset), true) => format!("Some({offset})"),
            (Some(offset), false) => offset.to_string(),
            (None, true) => "None".to_owned(),
            (None, false) => panic!("{} is not in every version: declare it as Option<u32>", self.path),
        }
    }
}

/// The fields in which an experiment's build differs from its release.
fn variant_lines(variant: &Row, every: &[Go], columns: &[Structures], text: &str) -> String {
    let at = every.iter().position(|go| go.pin.minor() == variant.minor).expect("it is among every Go");
    let structures = structures(&every[at], variant.experiment);
    let mut lines = String::new();
    for field in text.lines().filter_map(Field::parse) {
        let found = structures.offset(field.path);
        if found != columns[at].offset(field.path) {
            let name = field.head.trim_start().split(':').next().unwrap_or_default();
            writeln!(lines, "    {name}: {},", field.number(found))
                .expect("writing to a string does not fail");
        }
    }
    lines
}

/// Object sizes per class, wrapped as the file has them. One table serves all versions while all agree.
fn class_lines(every: &[Go]) -> String {
    const WIDTH: usize = 112;
    let of = |go: &Go| classes::spans(go).into_keys().collect::<Vec<u64>>();
    let sizes = of(&every[0]);
    for go in every {
        assert_eq!(of(go), sizes, "go {}: its size classes are others", go.pin.version);
    }
    let mut lines = String::new();
    let mut line = String::from("    0,");
    for size in sizes {
        let word = format!(" {size},");
        if line.len() + word.len() > WIDTH {
            writeln!(lines, "{line}").expect("writing to a string does not fail");
            "   ".clone_into(&mut line);
        }
        line.push_str(&word);
    }
    writeln!(lines, "{line}").expect("writing to a string does not fail");
    lines
}
