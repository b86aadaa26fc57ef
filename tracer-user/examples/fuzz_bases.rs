//! `fuzz_bases PID FILE`: keeps what tracer reads of a process, of its file and of its memory, for the fuzz targets.
//!
//! Whole pages of what was read, so that a changed pointer finds something; nothing else of the program is kept.
#![expect(clippy::print_stdout, reason = "it says what it wrote")]

#[expect(dead_code, unreachable_pub, reason = "the fuzz targets use the rest of it")]
#[path = "../../fuzz/src/base.rs"]
mod base;

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base::{Base, Extent};
use tracer_user::binary::file::FileBytes;
use tracer_user::binary::x86::Emulates;
use tracer_user::goruntime::GoImage;
use tracer_user::goruntime::code::call_sites::program;
use tracer_user::goruntime::code::exits::exit_sites;
use tracer_user::goruntime::code::hooks::{MapKind, map_kind};
use tracer_user::goruntime::code::map_variables::MapVariable;
use tracer_user::goruntime::code::recipes::RuntimeVars;
use tracer_user::goruntime::code::{hooks, sites};
use tracer_user::goruntime::heap::census::{self, Also, HeapShape};
use tracer_user::goruntime::heap::followed::{self, Follower};
use tracer_user::goruntime::heap::map_headers::Look;
use tracer_user::goruntime::heap::typing::Types;
use tracer_user::goruntime::names::inlining::PcKind;
use tracer_user::goruntime::names::type_table::TypeTable;
use tracer_user::goruntime::state::maps::{Known, Place};
use tracer_user::goruntime::state::{RuntimeState, goroutines, profile, specials};
use tracer_user::memory::{Address, ReadAt, ReadFault};
use tracer_user::record::samples::{Born, SampleKey};
use tracer_user::session::Target;
use tracer_user::units::{FileOffset, KTime, Pid, ProcAddr};

const PAGE: u64 = 4096;
/// Of a file less: its tables lie close together and most of its text is not wanted.
const FILE_PAGE: u64 = 256;

/// Sampled objects that are kept by address.
const OBJECTS: usize = 100;

/// Bytes that remember which of their pages were read.
struct Noted<R> {
    inner: R,
    pages: Arc<Mutex<BTreeSet<u64>>>,
    page: u64,
}

impl<A: Address, R: ReadAt<A>> ReadAt<A> for Noted<R> {
    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.inner.read(addr, buf)?;
        let (first, last) = (addr.raw() / self.page, (addr.raw() + buf.len() as u64) / self.page);
        self.pages.lock().expect("nobody panics with it").extend(first..=last);
        Ok(())
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, pid, to] = &arguments[..] else { panic!("say fuzz_bases PID FILE") };
    let target = Target::open(Pid(pid.parse().expect("a pid"))).expect("a Go process");
    let (file_len, file) = file(&target);
    let base = Base { file_len, file, ..memory(&target) };
    let packed = base.pack();
    std::fs::write(to, &packed).expect("the file can be written");
    let bytes = |all: &[Extent]| all.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    println!("{} bytes: {} of the file, {} of memory", packed.len(), bytes(&base.file), bytes(&base.memory));
}

/// What of the file a session looks at.
fn file(target: &Target) -> (u64, Vec<Extent>) {
    let file = target.process.exe();
    let len = file.metadata().expect("it is open").len();
    let bytes = |file: &File| FileBytes::new(file.try_clone().expect("it is open"));
    let pages = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = Noted { inner: bytes(file), pages: Arc::clone(&pages), page: FILE_PAGE };
    let image = GoImage::open(Box::new(noted), len).expect("it was opened before");
    RuntimeVars::find(&image).expect("it was opened before");
    for set in [hooks::alloc_hooks(&image), hooks::map_hooks(&image), hooks::goroutine_hooks(&image)] {
        for hook in &set.hooks {
            drop(sites::probe_site(&image, hook, Emulates { long_nops: true }));
        }
    }
    // Those that only other releases probe are code of an allocator too.
    for name in image.function_names(|name| name.starts_with("runtime.mallocgc")) {
        exit_sites(&image, &name, Emulates { long_nops: true }).expect("an allocator of a release");
    }
    for function in image.functions().take(200) {
        drop(image.frames_at(function.entry.plus(8), PcKind::Return));
    }
    let types = image.module().types;
    drop(image.memory().read_vec(
        types.start,
        (types.end.0 - types.start.0) as usize,
        tracer_user::units::Bytes(1 << 30),
    ));
    let pages = std::mem::take(&mut *pages.lock().expect("nobody panics with it"));
    (len, extents(&pages, FILE_PAGE, |at, buf| bytes(file).read(FileOffset(at), buf).is_ok()))
}

/// What of its memory.
fn memory(target: &Target) -> Base {
    let pages = Arc::new(Mutex::new(BTreeSet::new()));
    let memory = Noted { inner: target.process.memory(), pages: Arc::clone(&pages), page: PAGE };
    let (layout, vars) = (target.layout, target.state.vars());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64;
    let state = RuntimeState::open(&memory, layout, *vars, now).expect("it was opened before");
    state.gc(&memory, None).expect("a quiet process");
    state.size_classes(&memory).expect("a quiet process");
    state.goroutines(&memory, goroutines::Limits::default()).expect("a quiet process");
    let sampled = state.sampled_objects(&memory, specials::Limits::default()).expect("a quiet process");
    // And the address behind each, which belongs to another object, or to none.
    let objects: Vec<u64> = sampled
        .objects
        .iter()
        .take(OBJECTS)
        .flat_map(|object| [object.address.0, object.address.0 + 64])
        .collect();
    if let Some(vars) = &target.profile {
        profile::read(&memory, layout, vars, profile::Limits::default()).expect("a quiet process");
    }
    let kind = map_kind(&target.image).unwrap_or(MapKind::Swiss);
    let variables = program(&target.image).variables;
    let header = |place| target.memory.read_u64(target.bias.to_proc(place)).ok().filter(|at| *at != 0);
    let map = |of: &MapVariable| Some((header(of.address)?, target.bias.to_proc(of.type_addr).0));
    let maps: Vec<(u64, u64)> = variables.iter().filter_map(map).collect();
    let known = |(at, of): &(u64, u64)| Known { at: Place::Header(ProcAddr(*at)), type_addr: ProcAddr(*of) };
    state.maps(&memory, kind, &maps.iter().map(known).collect::<Vec<_>>());
    let shape = HeapShape::of(&target.image);
    let table = TypeTable::read(&target.image).expect("a whole program");
    let types = Types { table, bias: target.bias, texts: vec![target.image.module().text] };
    let also = Also { maps: Some(Look { kind, from: ProcAddr(0) }), profile: target.profile.as_ref() };
    let read = census::read_all(&memory, &state, shape, Some(&types), also, census::Limits::default())
        .expect("a quiet process");
    let sampled = read.sampled.map(|sampled| sampled.expect("a quiet process").1.looked_at);
    let large = read.maps.map_or(0, |found| found.maps.len());
    println!("{large} large maps, {sampled:?} sampled objects looked at");
    follow(&memory, &state, shape, &objects);
    let read = |at, buf: &mut [u8]| target.memory.read(ProcAddr(at), buf).is_ok();
    let pages = std::mem::take(&mut *pages.lock().expect("nobody panics with it"));
    Base {
        minor: target.image.version().minor,
        memory: extents(&pages, PAGE, read),
        vars: [
            vars.memstats,
            vars.gc_controller,
            vars.work,
            vars.allgs,
            vars.allglen,
            vars.allgptr,
            vars.mheap,
        ]
        .map(|at| at.0),
        wait_reasons: vars.wait_reason_strings.map(|at| at.0),
        profile: target.profile.map(|p| [p.mbuckets.0, p.cycle.0, p.rate.0]),
        bias: target.bias.0,
        inline_marks: shape.inline_marks,
        swiss: kind == MapKind::Swiss,
        maps,
        objects,
        unix_ns: now,
        ..Base::default()
    }
}

/// The objects looked at after this cycle, and as the next one would have it, whose marks lie elsewhere.
fn follow(memory: &dyn ReadAt<ProcAddr>, state: &RuntimeState, shape: HeapShape, objects: &[u64]) {
    let now = followed::generation(memory, state).expect("a quiet process");
    let mut follower = Follower::default();
    for address in objects {
        let key = SampleKey { address: ProcAddr(*address), at: KTime(1) };
        follower.follow(key, Some(Born { generation: now.wrapping_sub(2), marking: false }));
    }
    let fates = follower.check(memory, state, shape).expect("a quiet process").expect("they are due");
    println!("of {} objects {} survived, {} died", objects.len(), fates.survived.len(), fates.died.len());
    let at = state.vars().mheap.plus(u64::from(state.layout().mheap_sweepgen));
    follower
        .check(&Later { inner: memory, at, generation: now.wrapping_add(2) }, state, shape)
        .expect("it can be read");
}

/// Memory in which a cycle more has ended.
struct Later<'a> {
    inner: &'a dyn ReadAt<ProcAddr>,
    at: ProcAddr,
    generation: u32,
}

impl ReadAt<ProcAddr> for Later<'_> {
    fn read(&self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.inner.read(addr, buf)?;
        if addr == self.at {
            let word = self.generation.to_le_bytes();
            buf.iter_mut().zip(word).for_each(|(byte, new)| *byte = new);
        }
        Ok(())
    }
}

/// The bytes of the pages, neighbours together.
fn extents(pages: &BTreeSet<u64>, page: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> Vec<Extent> {
    let mut found: Vec<Extent> = Vec::new();
    for number in pages {
        let at = number * page;
        let mut bytes = vec![0; page as usize];
        // The last page of a file is not whole.
        while !read(at, &mut bytes) {
            if bytes.pop().is_none() {
                break;
            }
        }
        match found.last_mut() {
            Some((start, run)) if *start + run.len() as u64 == at => run.extend(bytes),
            _ => found.push((at, bytes)),
        }
    }
    found.retain(|(_, bytes)| !bytes.is_empty());
    found
}
