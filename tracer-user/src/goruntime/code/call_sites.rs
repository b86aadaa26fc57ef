//! Where the program's code allocates, by the type it passes: `lea type, rax; call runtime.newobject`.
//!
//! Apart because it answers before anything is probed: for a type of which ever more lives these are the places to look at,
//! often a single one. It says what code names a type, not how often it runs. Types that are known only while the program runs
//! (generic code's dictionaries, reflection) are named by no instruction; such calls are counted.

use std::collections::BTreeMap;

use super::super::image::{Function, GoImage};
use super::callers;
use super::map_variables::{self, MapVariable};
use crate::binary::operands::{Call, Value};
use crate::goruntime::names::cause::is_runtime;
use crate::goruntime::names::types::Kind;
use crate::units::ImageAddr;

/// A call that allocates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallSite {
    /// The call instruction.
    pub at: ImageAddr,
    /// Where it returns to.
    pub end: ImageAddr,
    /// The function it calls.
    pub callee: ImageAddr,
}

/// What the code of a program passes where it allocates.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CallSites {
    /// By type descriptor: of the objects, or of the map or channel that they are the storage of. In address order.
    types: BTreeMap<ImageAddr, Vec<CallSite>>,
    /// Calls of functions that take a type, the runtime's own left out.
    pub calls: u64,
    /// Those of which the type is known.
    pub typed: u64,
    /// Those that pass none: several variables in one object, bytes.
    pub without_type: u64,
    /// Functions whose code could not be read or decoded.
    pub undecoded: u64,
}

/// What one look through all of the program's code finds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    pub variables: Vec<MapVariable>,
    pub sites: CallSites,
}

/// Call sites kept, 24 bytes each: Kubernetes' largest program has a tenth of it.
const MAX_SITES: u64 = 1 << 20;
/// Where the type of a map's storage is in the map's descriptor (internal/abi/map_noswiss.go, map_swiss.go, map.go: Bucket,
/// Group; from go1.19 to go1.27).
const MAP_STORAGE: u64 = 64;
/// The type of a channel's elements (internal/abi/type.go, ChanType.Elem).
const CHAN_ELEM: u64 = 48;

/// Functions that allocate for compiled code, and which argument is the type. A name ending in `*` is a prefix. Those of the runtime
/// for one kind of value (`convTstring`, `concatstrings`) take none.
const ALLOCATORS: [(&str, usize); 12] = [
    ("runtime.newobject", 0),
    // makeslice, makeslice64, makeslicecopy
    ("runtime.makeslice*", 0),
    // moveSlice(et, old, len, cap), moveSliceNoCap(et, old, len) since go1.26; their forms without pointers take a size.
    ("runtime.moveSlice", 0),
    ("runtime.moveSliceNoCap", 0),
    // makemap_small takes no type.
    ("runtime.makemap", 0),
    ("runtime.makemap64", 0),
    ("runtime.mapassign*", 0),
    ("runtime.makechan*", 0),
    ("runtime.convT", 0),
    ("runtime.convTnoptr", 0),
    // growslice and its forms: growslice(oldPtr, newLen, oldCap, num, et) since go1.20.
    ("runtime.growslice*", 4),
    // mallocgc(size, typ, needzero), and go1.27's for one size each.
    ("runtime.mallocgc*", 1),
];

/// growslice(et, old, cap) up to go1.19.
const GROWSLICE_TYPE_FIRST: u32 = 19;

/// Looks through the main module's code.
pub fn program(image: &GoImage) -> Program {
    let mut targets: Vec<(ImageAddr, Takes)> = image
        .function_names(|name| takes(image, name).is_some())
        .iter()
        .filter_map(|name| Some((image.function(name)?.entry, takes(image, name)?)))
        .collect();
    targets.sort_unstable_by_key(|(entry, _)| *entry);
    let entries: Vec<ImageAddr> = targets.iter().map(|(entry, _)| *entry).collect();
    let (mut found, mut variables) = (Collected::default(), map_variables::Collected::default());
    let undecoded = callers::each_call(image, &entries, |function, call| {
        let Ok(i) = entries.binary_search(&call.target) else { return };
        let takes = targets[i].1;
        if takes.map {
            variables.see(call);
        }
        if let Some(argument) = takes.allocates {
            found.see(image, function, call, argument, takes.stores);
        }
    });
    found.sites.undecoded = undecoded;
    found.add_storage(image);
    Program { variables: variables.variables(image), sites: found.sites }
}

/// Sites while they are looked for.
#[derive(Default)]
struct Collected {
    sites: CallSites,
    /// Of all types, the runtime's own calls among them.
    kept: u64,
    /// The map and channel types that were passed, with the calls that make room in them.
    holders: BTreeMap<ImageAddr, (Kind, Vec<CallSite>)>,
}

/// What a function of the runtime takes.
#[derive(Clone, Copy)]
struct Takes {
    /// A map and its type.
    map: bool,
    /// It allocates, and this argument is the type.
    allocates: Option<usize>,
    /// What it allocates is the storage of that type of map or channel.
    stores: bool,
}

/// Functions that make room in a map or for a channel's elements.
const STORING: [&str; 3] = ["runtime.makemap", "runtime.mapassign", "runtime.makechan"];

fn takes(image: &GoImage, name: &str) -> Option<Takes> {
    let allocates =
        ALLOCATORS.iter().find(|(function, _)| is_named(function, name)).map(|(function, argument)| {
            match *function {
                "runtime.growslice*" if image.version().minor <= GROWSLICE_TYPE_FIRST => 0,
                _ => *argument,
            }
        });
    let map = map_variables::takes_map(name);
    let stores = STORING.iter().any(|of| name.starts_with(of));
    (map || allocates.is_some()).then_some(Takes { map, allocates, stores })
}

/// Whether a function is meant; a pattern ending in `*` is a prefix.
pub(super) fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

impl CallSites {
    /// The calls that pass a type.
    pub fn of(&self, type_addr: ImageAddr) -> &[CallSite] {
        self.types.get(&type_addr).map_or(&[], Vec::as_slice)
    }

    /// Every type that a call passes, or that is the storage of one, with its calls.
    pub fn all(&self) -> impl Iterator<Item = (ImageAddr, &[CallSite])> {
        self.types.iter().map(|(type_addr, sites)| (*type_addr, sites.as_slice()))
    }
}

impl Collected {
    fn see(&mut self, image: &GoImage, function: &Function, call: &Call, argument: usize, stores: bool) {
        let sites = &mut self.sites;
        let of_runtime = is_runtime(&function.name);
        let passed = call.arguments.get(argument).copied().unwrap_or_default();
        if let Value::Address(type_addr) = passed
            && self.kept < MAX_SITES
            && let Ok(info) = image.type_info(type_addr)
        {
            sites.calls += u64::from(!of_runtime);
            sites.typed += u64::from(!of_runtime);
            self.kept += 1;
            let site = CallSite { at: call.at, end: call.end, callee: call.target };
            sites.types.entry(type_addr).or_default().push(site);
            // makechan(type, size): without elements there is no room for them.
            let empty = info.kind == Kind::Chan && call.arguments[1] == Value::Constant(0);
            if stores && matches!(info.kind, Kind::Map | Kind::Chan) && !empty {
                self.holders.entry(type_addr).or_insert((info.kind, Vec::new())).1.push(site);
            }
            return;
        }
        // The runtime's own functions hand on what they were given.
        if !of_runtime {
            sites.calls += 1;
            sites.without_type += u64::from(passed == Value::Constant(0));
        }
    }

    /// Who writes to a map allocates its buckets or groups, and who makes a channel the room for its elements: under those types,
    /// too.
    fn add_storage(&mut self, image: &GoImage) {
        let place = |type_addr: ImageAddr, kind| {
            type_addr.plus(if kind == Kind::Map { MAP_STORAGE } else { CHAN_ELEM })
        };
        let places = self.holders.iter().map(|(type_addr, (kind, _))| place(*type_addr, *kind)).collect();
        let Ok(stored) = image.pointers(places) else { return };
        let mut of_storage: BTreeMap<ImageAddr, Vec<CallSite>> = BTreeMap::new();
        for (type_addr, (kind, sites)) in std::mem::take(&mut self.holders) {
            if let Some(stored) = stored.get(&place(type_addr, kind)) {
                of_storage.entry(*stored).or_default().extend(sites);
            }
        }
        for (stored, sites) in of_storage {
            let all = self.sites.types.entry(stored).or_default();
            all.extend(sites);
            all.sort_unstable();
            all.dedup();
        }
    }
}
