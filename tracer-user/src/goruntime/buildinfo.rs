//! What the linker wrote about the build: Go version, main module, build settings.
//!
//! Apart because it is the first thing looked for in a file and decides whether the rest is Go at all. It reads
//! the inline format (Go 1.18 on) from the file and never follows pointers of the older one.

use super::error::GoError;
use super::version::{GoVersion, SUPPORTED};
use crate::binary::elf::Elf;
use crate::memory::ReadAt;
use crate::units::{Bytes, FileOffset};

/// debug/buildinfo/buildinfo.go: the blob starts with this, aligned to 16 bytes.
const MAGIC: &[u8; 14] = b"\xff Go buildinf:";
const ALIGN: usize = 16;
/// Fixed part before the inline strings.
const HEADER: usize = 32;
/// Flags bit 1: the strings follow inline (Go 1.18 on).
const INLINE: u8 = 2;
/// The module text is wrapped in two 16-byte sentinels (cmd/go/internal/modload/build.go).
const SENTINEL: usize = 16;
/// A few thousand dependencies make some hundred kilobytes.
const MAX_TEXT: usize = 4 << 20;
const MAX_VERSION: usize = 4096;
/// Bytes scanned at a time while the blob is searched.
const WINDOW: usize = 64 << 10;

/// The build as its linker described it. Settings a build system other than `go build` left out are absent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildInfo {
    pub version: GoVersion,
    /// The version as written.
    pub version_text: String,
    /// Import path of the main package.
    pub path: Option<String>,
    /// Path of the module that holds it.
    pub module: Option<String>,
    pub module_version: Option<String>,
    /// `CGO_ENABLED`, `-race`, `-buildmode`, `GOEXPERIMENT`, `vcs.revision` and the like.
    pub settings: Vec<(String, String)>,
}

impl BuildInfo {
    /// Finds and reads the blob. `Ok(None)`: there is none, so this is hardly Go.
    pub fn find<R: ReadAt<FileOffset> + ?Sized>(elf: &Elf, file: &R) -> Result<Option<Self>, GoError> {
        if let Some(section) = elf.section(".go.buildinfo")
            && let Some(info) = Self::read_at(file, section.offset)?
        {
            return Ok(Some(info));
        }
        let Some(at) = search(elf, file) else {
            return Ok(None);
        };
        Self::read_at(file, at)
    }

    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A build of which only the version is known.
    pub(super) fn of_version(version: GoVersion, version_text: String) -> Self {
        Self { version, version_text, path: None, module: None, module_version: None, settings: Vec::new() }
    }

    fn read_at<R: ReadAt<FileOffset> + ?Sized>(file: &R, at: FileOffset) -> Result<Option<Self>, GoError> {
        let mut header = [0; HEADER];
        if file.read(at, &mut header).is_err() || !is_head(&header) {
            return Ok(None);
        }
        let broken = |what| GoError::Broken { what, at: at.0 };
        if header[15] & INLINE == 0 {
            return Err(GoError::Unsupported {
                found: "a Go older than go1.18".into(),
                range: SUPPORTED.into(),
            });
        }
        let mut cursor = at.plus(HEADER as u64);
        let version_text =
            inline_string(file, &mut cursor, MAX_VERSION).ok_or(broken("Go version in build info"))?;
        let version_text = String::from_utf8_lossy(&version_text).into_owned();
        let version = GoVersion::parse(&version_text).ok_or_else(|| GoError::Unsupported {
            found: format!("Go version {version_text:?}"),
            range: SUPPORTED.into(),
        })?;
        // No module text at all is normal (built by something else than the go command).
        let text = inline_string(file, &mut cursor, MAX_TEXT).unwrap_or_default();
        let mut info = Self::of_version(version, version_text);
        if text.len() > 2 * SENTINEL {
            info.read_module_text(&String::from_utf8_lossy(&text[SENTINEL..text.len() - SENTINEL]));
        }
        Ok(Some(info))
    }

    /// The lines of runtime/debug.BuildInfo.String: `path`, `mod`, `dep`, `build`, tab-separated.
    fn read_module_text(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.splitn(3, '\t');
            match (words.next(), words.next()) {
                (Some("path"), Some(path)) => self.path = Some(path.to_owned()),
                (Some("mod"), Some(module)) => {
                    self.module = Some(module.to_owned());
                    self.module_version = words
                        .next()
                        .and_then(|v| v.split('\t').next())
                        .filter(|v| !v.is_empty() && *v != "(devel)")
                        .map(str::to_owned);
                }
                (Some("build"), Some(_)) => {
                    let pair = line.strip_prefix("build\t").and_then(|p| p.split_once('='));
                    if let Some((key, value)) = pair {
                        self.settings.push((unquote(key), unquote(value)));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Keys and values with odd characters are quoted as Go strings; dropping the quotes is enough for display.
fn unquote(text: &str) -> String {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).to_owned()
}

/// A length as uvarint, then that many bytes; moves the cursor behind them.
fn inline_string<R: ReadAt<FileOffset> + ?Sized>(
    file: &R,
    cursor: &mut FileOffset,
    cap: usize,
) -> Option<Vec<u8>> {
    let mut len = 0usize;
    for shift in (0..28).step_by(7) {
        let byte = file.read_u8(*cursor).ok()?;
        *cursor = cursor.plus(1);
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let text = file.read_vec(*cursor, len, Bytes(cap as u64)).ok()?;
            *cursor = cursor.plus(len as u64);
            return Some(text);
        }
    }
    None
}

/// Whether a blob begins so: the magic, the size of a pointer, and flags (bit 0: big-endian). The magic alone is in every
/// program that looks for it, such as this one.
fn is_head(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) && matches!(bytes.get(MAGIC.len()..ALIGN), Some([4 | 8, 0..=3]))
}

/// Looks for the blob in every loaded segment, the writable ones (where linkers put it) first.
fn search<R: ReadAt<FileOffset> + ?Sized>(elf: &Elf, file: &R) -> Option<FileOffset> {
    let mut window = vec![0; WINDOW];
    let writable = elf.segments().iter().filter(|s| s.writable);
    let other = elf.segments().iter().filter(|s| !s.writable);
    for segment in writable.chain(other) {
        let mut done = 0;
        while done < segment.file_size {
            let part = &mut window[..((segment.file_size - done) as usize).min(WINDOW)];
            let at = segment.offset.plus(done);
            if file.read(at, part).is_err() {
                break;
            }
            // A window is a multiple of the alignment, so the magic never straddles two.
            let hit = part.chunks(ALIGN).position(is_head);
            if let Some(index) = hit {
                return Some(at.plus((index * ALIGN) as u64));
            }
            done += part.len() as u64;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Flat;

    fn blob(flags: u8, version: &str, text: &str) -> Vec<u8> {
        let mut b = MAGIC.to_vec();
        b.extend([8, flags]);
        b.resize(HEADER, 0);
        let mut put = |s: &[u8]| {
            let mut n = s.len();
            while n >= 0x80 {
                b.push(n as u8 | 0x80);
                n >>= 7;
            }
            b.push(n as u8);
            b.extend_from_slice(s);
        };
        put(version.as_bytes());
        if text.is_empty() {
            put(b"");
        } else {
            put(format!("{:16}{text}{:16}", "", "").as_bytes());
        }
        b
    }

    fn read(bytes: &[u8]) -> Result<Option<BuildInfo>, GoError> {
        BuildInfo::read_at(&Flat { base: 0, bytes }, FileOffset(0))
    }

    #[test]
    fn a_module_build() {
        let text = "path\texample.com/a/cmd/a\nmod\texample.com/a\tv1.2.3\th1:x=\ndep\tb.org/b\tv0.1.0\th1:y=\n\
                    build\t-buildmode=pie\nbuild\tCGO_ENABLED=0\nbuild\t\"-ldflags\"=\"-s -w\"\n";
        let info = read(&blob(2, "go1.26.8", text)).expect("reads").expect("is there");
        assert_eq!(info.version.minor, 26);
        assert_eq!(info.path.as_deref(), Some("example.com/a/cmd/a"));
        assert_eq!(info.module.as_deref(), Some("example.com/a"));
        assert_eq!(info.module_version.as_deref(), Some("v1.2.3"));
        assert_eq!(info.setting("-buildmode"), Some("pie"));
        assert_eq!(info.setting("-ldflags"), Some("-s -w"));
        assert_eq!(info.setting("-race"), None);
    }

    #[test]
    fn a_build_without_modules() {
        let info = read(&blob(2, "go1.22.1", "")).expect("reads").expect("is there");
        assert_eq!((info.path, info.module, info.settings.len()), (None, None, 0));
    }

    #[test]
    fn what_is_refused() {
        assert!(matches!(read(&blob(0, "go1.17", "")), Err(GoError::Unsupported { .. })));
        assert!(matches!(read(&blob(2, "gopher", "")), Err(GoError::Unsupported { .. })));
        assert!(matches!(read(&blob(2, "go1.26.8", "")[..36]), Err(GoError::Broken { .. })));
        assert_eq!(read(b"nothing of the kind, but long enough"), Ok(None));
        assert_eq!(read(b"\xff Go buildinf: and text of a program that looks for it"), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            drop(read(&bytes));
            bytes.splice(0..0, *b"\xff Go buildinf:\x08\x02");
            drop(read(&bytes));
        }
    }
}
