//! The Go release a program was built with, as its build info spells it.
//!
//! Apart because every table in this room is keyed by it. It parses text and compares numbers; what a version
//! means for a layout is said where the layout is.

use std::fmt;

use super::error::GoError;

/// The oldest minor release whose structures were checked.
pub const OLDEST_MINOR: u32 = 19;
/// The range for people; the newest is the last row of the layout table.
pub const SUPPORTED: &str = "go1.19 to go1.27";

/// A release such as `go1.26.8`, with the experiments it was built with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoVersion {
    /// The 26 of go1.26.8. The major number is 1 in every release there is.
    pub minor: u32,
    pub patch: u32,
    /// Not a release: a development tree, a beta or a release candidate. Its structures may differ.
    pub prerelease: bool,
    /// GOEXPERIMENT settings that differ from the release's own (`X:noswissmap,greenteagc`).
    pub experiments: Vec<String>,
}

impl GoVersion {
    /// Reads `go1.26.8`, `go1.25.5 X:noswissmap`, `go1.27rc1`, `devel go1.28-abcdef Thu ...`, `go1.22.1 (vendor)`.
    /// `None` for anything else, Go 2 included.
    pub fn parse(text: &str) -> Option<Self> {
        let (devel, rest) = match text.strip_prefix("devel ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let rest = rest.strip_prefix("go1.")?;
        let (minor, rest) = number(rest)?;
        let (patch, tail) = match rest.strip_prefix('.').and_then(number) {
            Some((patch, tail)) => (patch, tail),
            None => (0, rest),
        };
        let prerelease =
            devel || tail.starts_with("rc") || tail.starts_with("beta") || tail.starts_with("-devel");
        // The linker appends " X:a,b", from go1.26 on "-X:a,b" (internal/buildcfg, cmd/go/internal/work); vendors append
        // what they like.
        let experiments = text
            .split_once(" X:")
            .or_else(|| text.split_once("-X:"))
            .map(|(_, x)| x.split_whitespace().next().unwrap_or_default())
            .map(|x| x.split(',').filter(|e| !e.is_empty()).map(str::to_owned).collect())
            .unwrap_or_default();
        Some(Self { minor, patch, prerelease, experiments })
    }

    /// Refuses what is older than anything that was checked. What is newer is judged by its structures.
    pub fn supported(self) -> Result<Self, GoError> {
        if self.minor >= OLDEST_MINOR {
            Ok(self)
        } else {
            Err(GoError::Unsupported { found: self.to_string(), range: SUPPORTED.into() })
        }
    }

    pub fn has_experiment(&self, name: &str) -> bool {
        self.experiments.iter().any(|e| e == name)
    }
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { minor, patch, prerelease, experiments } = self;
        write!(f, "go1.{minor}")?;
        if *patch > 0 {
            write!(f, ".{patch}")?;
        }
        if *prerelease {
            write!(f, " (prerelease)")?;
        }
        if !experiments.is_empty() {
            write!(f, " X:{}", experiments.join(","))?;
        }
        Ok(())
    }
}

fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_build_info_says() {
        let check = |text: &str, minor, patch, prerelease, experiments: &[&str]| {
            let v = GoVersion::parse(text).expect(text);
            assert_eq!((v.minor, v.patch, v.prerelease), (minor, patch, prerelease), "{text}");
            assert_eq!(v.experiments, experiments, "{text}");
        };
        check("go1.26.8", 26, 8, false, &[]);
        check("go1.19", 19, 0, false, &[]);
        check("go1.25.5 X:noswissmap,greenteagc", 25, 5, false, &["noswissmap", "greenteagc"]);
        check("go1.26.8-X:nogreenteagc", 26, 8, false, &["nogreenteagc"]);
        check("go1.27rc1", 27, 0, true, &[]);
        check("devel go1.28-abcdef Thu Jan 1 00:00:00 2026 +0000", 28, 0, true, &[]);
        check("go1.28-devel_0abc Mon", 28, 0, true, &[]);
        check("go1.22.7 (Red Hat 1.22.7-1.el9) X:strictfipsruntime", 22, 7, false, &["strictfipsruntime"]);
        check("go1.24.1-vendor", 24, 1, false, &[]);
    }

    #[test]
    fn what_is_no_version() {
        for text in ["", "go", "go1", "go1.", "go2.1", "1.26", "devel +abcdef", "go1.99999999999"] {
            assert_eq!(GoVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_supported_range() {
        let refuse = |text: &str| GoVersion::parse(text).expect(text).supported().is_err();
        assert!(refuse("go1.18.10") && !refuse("go1.19") && !refuse("go1.27.3") && !refuse("go1.28.1"));
        let newest = super::super::layout::newest_minor();
        assert_eq!(SUPPORTED, format!("go1.{OLDEST_MINOR} to go1.{newest}"));
    }
}
