//! Why an allocation happened, from the runtime functions between the user's code and the allocator.
//!
//! Pure on names. It belongs to the Go knowledge (it names runtime functions), reads nothing and knows no
//! addresses; the names are the same from Go 1.19 to 1.27 unless a row says otherwise.

/// Why an allocation happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    New,
    MakeSlice,
    AppendGrowth,
    MakeMap,
    MapAssign,
    MapGrowth,
    StringConcat,
    StringBytesConversion,
    InterfaceConversion,
    Closure,
    GoroutineStart,
    Channel,
    Timer,
    Defer,
    Cgo,
    Other,
}

impl Cause {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::New => "new",
            Cause::MakeSlice => "make-slice",
            Cause::AppendGrowth => "append-growth",
            Cause::MakeMap => "make-map",
            Cause::MapAssign => "map-assign",
            Cause::MapGrowth => "map-growth",
            Cause::StringConcat => "string-concat",
            Cause::StringBytesConversion => "string-bytes-conversion",
            Cause::InterfaceConversion => "interface-conversion",
            Cause::Closure => "closure",
            Cause::GoroutineStart => "goroutine-start",
            Cause::Channel => "channel",
            Cause::Timer => "timer",
            Cause::Defer => "defer",
            Cause::Cgo => "cgo",
            Cause::Other => "other",
        }
    }
}

/// Functions of the runtime that carry another package's name because that package declares them (linkname).
const BORROWED_NAMES: &[&str] = &[
    "internal/bytealg.MakeNoZero",
    "reflect.unsafe_New",
    "reflect.unsafe_NewArray",
    "reflect.makemap",
    "reflect.makechan",
    "reflect.mapassign0",
    "reflect.mapassign_faststr0",
    "reflect.growslice",
    "reflect.typedslicecopy",
    "internal/reflectlite.unsafe_New",
    "time.newTimer",
    "sync.runtime_Semacquire",
    "sync.runtime_SemacquireMutex",
    "sync.runtime_SemacquireRWMutex",
    "sync.runtime_SemacquireRWMutexR",
    "sync.runtime_SemacquireWaitGroup",
    "sync.runtime_notifyListWait",
    "internal/sync.runtime_Semacquire",
    "internal/sync.runtime_SemacquireMutex",
    "internal/poll.runtime_Semacquire",
    "internal/poll.runtime_pollWait",
    "os/signal.signal_recv",
    "time.Sleep",
];

/// True for functions of the runtime itself, its internal packages and those it lends to other packages.
pub fn is_runtime(function: &str) -> bool {
    function.starts_with("runtime.")
        || function.starts_with("internal/runtime/")
        || function.starts_with("runtime/internal/")
        || BORROWED_NAMES.contains(&function)
}

/// True for the allocator's own functions (runtime/malloc.go, malloc_generated.go).
pub fn is_allocator(function: &str) -> bool {
    function.starts_with("runtime.mallocgc")
}

/// True for functions that runtime/pprof leaves out in front of a heap profile's stacks (protomem.go,
/// writeHeapProto).
pub fn hidden_in_profiles(function: &str) -> bool {
    function.starts_with("runtime.") || function.starts_with("internal/runtime/")
}

/// True for the function below every goroutine's first (asm_amd64.s, `goexit`).
pub fn is_bottom(function: &str) -> bool {
    function == "runtime.goexit"
}

/// True where a goroutine that runs `entry` is the runtime's own (runtime/traceback.go, isSystemGoroutine). The main
/// goroutine runs `runtime.main` for the user, an iterator of iter.Pull that has not begun `runtime.corostart`. Where the
/// entry is unknown, who started it decides.
pub fn is_runtime_goroutine(entry: &str, created_by: Option<&str>) -> bool {
    match entry {
        "" => created_by.is_some_and(is_runtime),
        "runtime.main" | "runtime.corostart" | "runtime.handleAsyncEvent" => false,
        _ => entry.starts_with("runtime."),
    }
}

/// How a function name decides. The first row that fits wins; rows are tried per frame, from the frame nearest
/// the user's code inwards. A name ending in `*` is a prefix.
const CALLS: &[(&str, Cause)] = &[
    ("runtime.growslice*", Cause::AppendGrowth),
    ("reflect.growslice", Cause::AppendGrowth),
    // From Go 1.26: what append put on the stack goes to the heap.
    ("runtime.moveSlice*", Cause::AppendGrowth),
    ("runtime.makeslice*", Cause::MakeSlice),
    ("runtime.newarray", Cause::MakeSlice),
    ("reflect.unsafe_NewArray", Cause::MakeSlice),
    ("internal/bytealg.MakeNoZero", Cause::MakeSlice),
    ("runtime.concat*", Cause::StringConcat),
    ("runtime.slicebytetostring*", Cause::StringBytesConversion),
    ("runtime.stringtoslicebyte*", Cause::StringBytesConversion),
    ("runtime.slicerunetostring", Cause::StringBytesConversion),
    ("runtime.stringtoslicerune", Cause::StringBytesConversion),
    ("runtime.intstring", Cause::StringBytesConversion),
    ("runtime.convT*", Cause::InterfaceConversion),
    ("runtime.makemap*", Cause::MakeMap),
    ("reflect.makemap", Cause::MakeMap),
    ("internal/runtime/maps.NewMap", Cause::MakeMap),
    ("internal/runtime/maps.NewEmptyMap", Cause::MakeMap),
    ("runtime.mapassign*", Cause::MapAssign),
    ("reflect.mapassign*", Cause::MapAssign),
    ("internal/runtime/maps.*", Cause::MapAssign),
    ("runtime.makechan*", Cause::Channel),
    ("reflect.makechan", Cause::Channel),
    ("runtime.newproc*", Cause::GoroutineStart),
    ("runtime.malg", Cause::GoroutineStart),
    ("time.newTimer", Cause::Timer),
    ("runtime.newTimer", Cause::Timer),
    ("runtime.newdefer", Cause::Defer),
    ("runtime.deferproc*", Cause::Defer),
    ("runtime.cgo*", Cause::Cgo),
    ("runtime.newobject", Cause::New),
    ("reflect.unsafe_New", Cause::New),
    ("internal/reflectlite.unsafe_New", Cause::New),
    // From Go 1.27 compiled code calls these itself.
    ("runtime.mallocgc*", Cause::New),
];

/// Functions that only run where a map gets larger: Go <= 1.23 (map.go hashGrow, growWork) and the Swiss maps
/// since 1.24 (internal/runtime/maps: table.go, map.go).
const MAP_GROWTH: &[&str] = &[
    "runtime.hashGrow",
    "runtime.growWork",
    "internal/runtime/maps.(*table).rehash",
    "internal/runtime/maps.(*table).grow",
    "internal/runtime/maps.(*table).split",
    "internal/runtime/maps.(*Map).growToTable",
    "internal/runtime/maps.(*Map).growToSmall",
];

/// The cause of an allocation. `runtime` are the runtime's functions between the user's code and the allocator,
/// innermost first; empty where user code called the allocator itself. `type_name` is what was allocated.
pub fn of(runtime: &[&str], type_name: Option<&str>) -> Cause {
    let cause = runtime.iter().rev().find_map(|f| lookup(f));
    match cause {
        None if runtime.is_empty() => new_or_closure(type_name),
        None => Cause::Other,
        Some(Cause::New) => new_or_closure(type_name),
        Some(Cause::MapAssign) if runtime.iter().any(|f| MAP_GROWTH.contains(f)) => Cause::MapGrowth,
        Some(cause) => cause,
    }
}

fn lookup(function: &str) -> Option<Cause> {
    CALLS
        .iter()
        .find(|(name, _)| match name.strip_suffix('*') {
            Some(prefix) => function.starts_with(prefix),
            None => function == *name,
        })
        .map(|(_, cause)| *cause)
}

/// True where what is made is one value of the type, and never an array of them.
pub fn is_of_one_object(cause: Cause) -> bool {
    matches!(cause, Cause::New | Cause::Closure | Cause::InterfaceConversion)
}

/// A closure is an object whose first field is the function's address (cmd/compile, closure.go: field `F`).
fn new_or_closure(type_name: Option<&str>) -> Cause {
    let name = type_name.unwrap_or("").trim_start_matches('*');
    let name = name.strip_prefix("noalg.").unwrap_or(name);
    if name.starts_with("struct { F uintptr") { Cause::Closure } else { Cause::New }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goroutines_that_run_for_the_program_are_not_the_runtimes() {
        for entry in ["runtime.main", "runtime.corostart", "runtime.handleAsyncEvent", "main.serve"] {
            assert!(!is_runtime_goroutine(entry, None), "{entry}");
        }
        assert!(is_runtime_goroutine("runtime.bgsweep", Some("runtime.gcenable")));
    }

    #[test]
    fn the_frame_nearest_the_user_decides() {
        let check = |frames: &[&str], ty: Option<&str>, want: Cause| {
            assert_eq!(of(frames, ty), want, "{frames:?} {ty:?}");
        };
        check(&[], Some("main.T"), Cause::New);
        check(&["runtime.newobject"], Some("main.T"), Cause::New);
        check(&["runtime.newobject"], Some("struct { F uintptr; X0 int }"), Cause::Closure);
        check(&[], Some("noalg.struct { F uintptr; X0 int }"), Cause::Closure);
        check(&["runtime.mallocgc", "runtime.makeslice"], None, Cause::MakeSlice);
        check(&["runtime.growslice"], None, Cause::AppendGrowth);
        check(&["runtime.growsliceBuf"], None, Cause::AppendGrowth);
        check(
            &["runtime.rawstring", "runtime.rawstringtmp", "runtime.concatstrings", "runtime.concatstring2"],
            None,
            Cause::StringConcat,
        );
        check(&["runtime.slicebytetostring"], None, Cause::StringBytesConversion);
        check(&["runtime.convTstring"], None, Cause::InterfaceConversion);
        check(&["runtime.newobject", "runtime.mapassign_faststr"], None, Cause::MapAssign);
        check(
            &["runtime.newarray", "runtime.makeBucketArray", "runtime.hashGrow", "runtime.mapassign"],
            None,
            Cause::MapGrowth,
        );
        check(
            &[
                "internal/runtime/maps.newarray",
                "internal/runtime/maps.newGroups",
                "internal/runtime/maps.(*table).reset",
                "internal/runtime/maps.newTable",
                "internal/runtime/maps.(*table).grow",
                "internal/runtime/maps.(*table).rehash",
                "runtime.mapassign_faststr",
            ],
            None,
            Cause::MapGrowth,
        );
        check(&["internal/runtime/maps.NewMap", "runtime.makemap"], None, Cause::MakeMap);
        check(&["runtime.malg", "runtime.newproc1"], None, Cause::GoroutineStart);
        check(&["runtime.makechan"], None, Cause::Channel);
        check(&["runtime.acquireSudog"], None, Cause::Other);
    }

    #[test]
    fn borrowed_names_are_the_runtimes() {
        assert!(is_runtime("reflect.unsafe_New"));
        assert!(is_runtime("internal/runtime/maps.newTable"));
        assert!(!is_runtime("runtime/debug.FreeOSMemory"));
        assert!(!is_runtime("reflect.New"));
    }
}
