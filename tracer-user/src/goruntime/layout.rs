//! Picks the layout row of a Go version, and the allocator's constants.
//!
//! Apart from `layouts`, which is only numbers. Never guesses, because a wrong offset reads plausible garbage: a
//! version below the table is refused. One above it gets a row from the program's own debugging information where
//! there is any; else the newest row on trial, which stands only if everything read with it proves sound.

use super::error::GoError;
pub use super::layouts::{CLASS_TO_SIZE, Layout};
use super::layouts::{GREEN_TEA_25, NO_ALLOC_HEADERS_22, OLDEST_MINOR, ROWS};
use super::version::GoVersion;
use crate::binary::dwarf::Structures;
use crate::binary::elf::Elf;
use crate::memory::ReadAt;
use crate::units::FileOffset;

/// What a layout rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Basis {
    /// The version's own row of the table.
    Table,
    /// The debugging information of the program, which is newer than the table.
    Debug,
    /// The newest row, for a newer program without debugging information: on trial.
    Trial,
}

impl Basis {
    /// What a user should know of it.
    pub fn caveat(self) -> Option<&'static str> {
        match self {
            Self::Table => None,
            Self::Debug => Some("its structures are read by its own debugging information"),
            Self::Trial => {
                Some("its structures are read as those of the newest known version, which they resemble")
            }
        }
    }

    /// An error of something read on trial says that the program is too new, not that it is damaged.
    pub fn judge(self, known: Known, version: &GoVersion, error: GoError) -> GoError {
        match error {
            GoError::Read(_) | GoError::Newer { .. } => error,
            why if self == Self::Trial => GoError::newer(version, known, &why.to_string()),
            error => error,
        }
    }
}

/// The rows that may be used: the whole table, or an older one, as a tracer had it that was built before the newest Go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known(&'static [Layout]);

impl Known {
    /// The whole table.
    pub fn all() -> Self {
        Self(&ROWS)
    }

    /// The table up to `go1.<minor>`, and the oldest row at least.
    #[must_use]
    pub fn until(minor: u32) -> Self {
        let rows = minor.saturating_sub(OLDEST_MINOR).saturating_add(1) as usize;
        Self(&ROWS[..rows.min(ROWS.len())])
    }

    fn row(self, minor: u32) -> Option<&'static Layout> {
        self.0.iter().find(|row| row.minor == minor)
    }

    /// Whether there is a row for `go1.<minor>`.
    pub fn has(self, minor: u32) -> bool {
        self.row(minor).is_some()
    }

    fn newest(self) -> &'static Layout {
        self.0.last().expect("there is an oldest row")
    }

    /// The range for people.
    pub fn range(self) -> String {
        format!("go1.{OLDEST_MINOR} to go1.{}", self.newest().minor)
    }
}

/// A Go version for which there is no layout row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("go1.{found} is not supported: this tracer knows go1.{oldest} to go1.{newest}{}", self.advice())]
pub struct UnsupportedGo {
    pub found: u32,
    pub oldest: u32,
    pub newest: u32,
}

impl UnsupportedGo {
    fn advice(&self) -> &'static str {
        if self.found > self.newest { "; use a newer tracer" } else { "; build the program with a newer Go" }
    }
}

impl Layout {
    /// The layout of a program, and what it rests on.
    pub fn choose<R: ReadAt<FileOffset> + ?Sized>(
        known: Known,
        version: &GoVersion,
        elf: &Elf,
        file: &R,
    ) -> Result<(&'static Layout, Basis), GoError> {
        if let Some(row) = known.row(version.minor) {
            return Ok((row, Basis::Table));
        }
        if version.minor < OLDEST_MINOR {
            return Err(GoError::Unsupported { found: version.to_string(), range: known.range().into() });
        }
        let Some(structures) = Structures::read(elf, file, |name| name.starts_with("runtime."))? else {
            return Ok((known.newest(), Basis::Trial));
        };
        let derived = Self::derived(version.minor, |path| structures.offset(path))
            .map_err(|path| GoError::newer(version, known, &format!("it has no {path}")))?;
        // Rows live as long as the program, as those of the table do; there is one for each file opened.
        Ok((Box::leak(Box::new(derived)), Basis::Debug))
    }

    /// The row of a build with other structures than its release's own. Which it is, the functions it contains tell:
    /// version text can be anything. `contains` is asked for a function and the file that it must be of.
    #[must_use]
    pub fn of_variant(&'static self, contains: impl Fn(&str, &str) -> bool) -> &'static Layout {
        let is = |minor: u32| std::ptr::eq(self, &raw const ROWS[(minor - OLDEST_MINOR) as usize]);
        // mallocgc calls it; with headers nothing does, and what stands in for it is in mbitmap_allocheaders.go.
        if is(22) && contains("runtime.heapBitsSetType", NO_ALLOC_HEADERS) {
            return &NO_ALLOC_HEADERS_22;
        }
        // Sweeping calls it; without the experiment it is in mgcmark_nogreenteagc.go.
        if is(25) && contains("runtime.(*mspan).moveInlineMarks", GREEN_TEA) {
            return &GREEN_TEA_25;
        }
        self
    }

    /// The row for `go1.<minor>`; patch releases share it.
    pub fn for_minor(minor: u32) -> Result<&'static Layout, UnsupportedGo> {
        minor.checked_sub(OLDEST_MINOR).and_then(|column| ROWS.get(column as usize)).ok_or(UnsupportedGo {
            found: minor,
            oldest: OLDEST_MINOR,
            newest: newest_minor(),
        })
    }

    /// Where an object of `size` bytes goes. `pointers` says whether its type holds any.
    pub fn placement(&self, size: u64, pointers: bool) -> Placement {
        let header =
            if self.has_malloc_headers() && pointers && size > HEADER_ABOVE { HEADER_SIZE } else { 0 };
        // runtime/malloc.go, mallocgc: `size <= maxSmallSize-mallocHeaderSize` decides "small" for all types
        // since 1.22; before, `size <= maxSmallSize`.
        let small = if self.has_malloc_headers() { MAX_SMALL - HEADER_SIZE } else { MAX_SMALL };
        if size > small {
            return Placement { class: None, bytes: size.saturating_add(PAGE - 1) / PAGE * PAGE };
        }
        let needed = size + header;
        let class = CLASS_TO_SIZE.partition_point(|&s| u64::from(s) < needed).max(1);
        Placement { class: Some(class as u8), bytes: u64::from(CLASS_TO_SIZE[class]) }
    }

    /// Whether objects with pointers above [`HEADER_ABOVE`] bytes carry their type in a header
    /// (runtime/mbitmap_allocheaders.go, new in 1.22; mbitmap.go since 1.23). They took the place of the arenas' bitmaps.
    pub fn has_malloc_headers(&self) -> bool {
        self.arena_bitmap().is_none()
    }

    /// Where an arena's structure keeps which words are pointers; absent where spans and headers do.
    pub fn arena_bitmap(&self) -> Option<u32> {
        self.heap_arena_bitmap.or(self.heap_arena_scalar_bitmap)
    }

    /// Whether an object with pointers and no header is made of zeros to the end of its slot. Since 1.24 only to the end of
    /// its type: mallocgcSmallScanNoHeader rounds the size up behind memclrNoHeapPointers (runtime/malloc.go).
    pub fn clears_whole_slots(&self) -> bool {
        self.minor < 24
    }
}

/// The file below runtime/ of the collector that keeps marks inline.
pub const GREEN_TEA: &str = "mgcmark_greenteagc.go";

/// The same of the allocator without malloc headers in go1.22.
const NO_ALLOC_HEADERS: &str = "mbitmap_noallocheaders.go";

/// Where the allocator puts an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The size class; absent for large objects.
    pub class: Option<u8>,
    /// Bytes set aside for it, header and rounding included.
    pub bytes: u64,
}

/// The newest Go minor in the table.
pub fn newest_minor() -> u32 {
    OLDEST_MINOR + ROWS.len() as u32 - 1
}

/// Objects without pointers below this size share blocks of it (runtime/malloc.go, `maxTinySize`).
pub const TINY_SIZE: u64 = 16;
/// Largest small object, header included (runtime/sizeclasses.go, `_MaxSmallSize`).
pub const MAX_SMALL: u64 = 32768;
/// Objects with pointers above this size have a malloc header from Go 1.22 on (`minSizeForMallocHeader`).
pub const HEADER_ABOVE: u64 = 512;
/// Size of that header (`mallocHeaderSize`).
pub const HEADER_SIZE: u64 = 8;
/// The allocator's page (runtime/sizeclasses.go, `_PageSize`), not the machine's.
pub const PAGE: u64 = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_supported_minor_has_its_own_row_and_others_are_refused_with_the_range() {
        for minor in 19..=27 {
            assert_eq!(Layout::for_minor(minor).unwrap().minor, minor);
        }
        let newer = Layout::for_minor(28).unwrap_err().to_string();
        assert_eq!(newer, "go1.28 is not supported: this tracer knows go1.19 to go1.27; use a newer tracer");
        assert!(
            Layout::for_minor(18).unwrap_err().to_string().ends_with("build the program with a newer Go")
        );
        assert!(Layout::for_minor(u32::MAX).is_err());
    }

    #[test]
    fn an_older_table_ends_with_its_newest_row() {
        let older = Known::until(26);
        assert!(older.has(26) && !older.has(27) && Known::all().has(27));
        assert_eq!(older.range(), "go1.19 to go1.26");
        assert_eq!(Known::all().range(), super::super::version::SUPPORTED);
        assert_eq!((Known::until(0).range().as_str(), Known::until(99)), ("go1.19 to go1.19", Known::all()));
    }

    #[test]
    fn experiments_with_other_structures_have_rows_of_their_own() {
        let row = |minor: u32| Layout::for_minor(minor).unwrap();
        assert_eq!(row(25).of_variant(|_, _| false), row(25));
        let green = row(25).of_variant(|name, _| name.ends_with("moveInlineMarks"));
        assert_ne!(green.work_cycles, row(25).work_cycles);
        assert_eq!(row(26).of_variant(|_, _| true), row(26));
        assert_eq!(row(22).of_variant(|_, file| file == "mbitmap_allocheaders.go"), row(22));
        let headless = row(22).of_variant(|_, file| file == "mbitmap_noallocheaders.go");
        assert!(row(22).has_malloc_headers() && !headless.has_malloc_headers());
        // As in 1.21: what fits a class exactly is in it, and 32 KiB are small.
        for (size, bytes) in [(576, 576), (32_768, 32_768), (32_769, 40_960)] {
            assert_eq!(headless.placement(size, true), row(21).placement(size, true));
            assert_eq!(headless.placement(size, true).bytes, bytes);
        }
    }

    fn check(minor: u32, size: u64, pointers: bool, class: Option<u8>, bytes: u64) {
        let placed = Layout::for_minor(minor).unwrap().placement(size, pointers);
        assert_eq!(placed, Placement { class, bytes }, "go1.{minor} size {size} pointers {pointers}");
    }

    #[test]
    fn objects_are_placed_as_the_runtime_does() {
        check(27, 1, false, Some(1), 8);
        check(27, 8, true, Some(1), 8);
        check(27, 9, true, Some(2), 16);
        check(27, 512, true, Some(26), 512);
        // 513 + 8 bytes of header is the class of 576; 1.21 has no header, and 576 takes 569 to 576 there too.
        check(27, 513, true, Some(27), 576);
        check(27, 576, true, Some(28), 640);
        check(27, 576, false, Some(27), 576);
        check(21, 576, true, Some(27), 576);
        check(27, 32760, true, Some(67), 32768);
        check(27, 32760, false, Some(67), 32768);
        check(27, 32761, false, None, 32768);
        check(27, 32769, true, None, 40960);
        check(21, 32768, false, Some(67), 32768);
        check(21, 32769, false, None, 40960);
    }
}
