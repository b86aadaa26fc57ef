//! Call sites read from a program's code, against what its probes saw: values, slices and closures of a known type were allocated at
//! a place that the code was said to make that type at.
//!
//! The truth is the counted stacks and types, which come from the allocator's own arguments and from the frames above it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tracer_tests::counting::Window;
use tracer_tests::go::{Go, Mode, every_version};
use tracer_tests::image::image;
use tracer_tests::live;
use tracer_tests::report::{list, number, text};
use tracer_user::goruntime::code::call_sites::program;
use tracer_user::goruntime::names::inlining::PcKind;

/// Function and line.
type Place = (String, u64);

/// Causes of calls that compiled code makes itself, with the type as an argument.
const BY_CODE: [&str; 4] = ["new", "make-slice", "append-growth", "closure"];

#[test]
fn what_was_allocated_was_allocated_where_the_code_says() {
    live!();
    for (go, mode) in every_version() {
        let program = go.build("allocs", mode);
        let what = format!("go {} {}", go.pin.version, mode.name());
        let told = places(&program);
        let window = Window::of(&go, &program, what.clone(), "run 200");
        let (mut at_places, mut elsewhere) = (0, BTreeMap::new());
        for row in list(&window.report, "/allocations").iter().filter(|row| is_by_code(row)) {
            let Some(name) = row["type"].as_str() else { continue };
            let objects = number(row, "/allocated/objects");
            match told.get(name) {
                Some(places) if stack(row).iter().any(|at| places.contains(at)) => at_places += objects,
                _ => *elsewhere.entry((name.to_owned(), stack(row))).or_insert(0) += objects,
            }
        }
        let missed: u64 = elsewhere.values().sum();
        assert!(at_places > 10_000, "{what}: {at_places} objects");
        // Generic code and reflection are named nowhere.
        assert!(missed * 100 <= at_places, "{what}: {missed} beside {at_places}: {elsewhere:#?}");
    }
}

/// Where the code makes objects of each type.
fn places(program_file: &Path) -> BTreeMap<String, BTreeSet<Place>> {
    let image = image(program_file);
    let sites = program(&image).sites;
    assert_eq!(sites.undecoded, 0);
    let mut told: BTreeMap<String, BTreeSet<Place>> = BTreeMap::new();
    for (type_addr, calls) in sites.all() {
        let name = image.type_info(type_addr).expect("a type descriptor").name;
        let frames = calls.iter().flat_map(|site| image.frames_at(site.end, PcKind::Return));
        let places = frames.map(|frame| (frame.function, u64::from(frame.line)));
        told.entry(name).or_default().extend(places);
    }
    told
}

fn is_by_code(row: &Value) -> bool {
    BY_CODE.contains(&text(row, "/cause"))
}

/// The innermost of the program's own frames: what the compiler inlined shares its call.
fn stack(row: &Value) -> Vec<Place> {
    let frames = list(row, "/stack").iter().take(1);
    frames.map(|f| (text(f, "/function").to_owned(), f["line"].as_u64().unwrap_or(0))).collect()
}

#[test]
fn most_calls_of_a_real_program_name_their_type() {
    live!();
    for (go, mode) in [(Go::demo(), Mode::StrippedPie), (Go::demo(), Mode::Ordinary)] {
        let sites = program(&image(&go.build("http", mode))).sites;
        assert!(sites.calls > 3_000, "{}", sites.calls);
        assert!(sites.typed * 100 >= sites.calls * 95, "{} of {}", sites.typed, sites.calls);
    }
}
