//! Whose code a function is: the user's (main, their modules, what they depend on) or the standard library's.

use crate::symbolize::evidence::Frame;

/// The package path of a function as pclntab names it: up to the first dot after the last slash.
fn package(function: &str) -> &str {
    // Type arguments may hold slashes and dots of their own.
    let name = function.split('[').next().unwrap_or(function);
    let start = name.rfind('/').map_or(0, |i| i + 1);
    match name[start..].find('.') {
        Some(dot) => &name[..start + dot],
        None => name,
    }
}

/// True for the standard library: its import paths have no dot in their first element (cmd/go, "go help
/// importpath"). A module whose own path has none is known by `module`.
pub(super) fn is_std(function: &str, module: Option<&str>) -> bool {
    let package = package(function);
    let own = module.is_some_and(|m| {
        package.strip_prefix(m).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let first = package.split('/').next().unwrap_or(package);
    package != "main" && !own && !first.contains('.') && !first.starts_with("0x")
}

/// The user's frames, innermost first.
pub(super) fn own_frames<'a>(stack: &'a [Frame], module: Option<&str>) -> Vec<&'a Frame> {
    stack.iter().filter(|f| !is_std(&f.function, module)).collect()
}

/// The frame to name a site by: the innermost of the user's, else the innermost.
pub(super) fn place(stack: &[Frame], module: Option<&str>) -> Option<Frame> {
    own_frames(stack, module).first().copied().or(stack.first()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_library_is_known_by_its_paths() {
        for std in [
            "strings.(*Builder).grow",
            "net/http.(*conn).serve",
            "encoding/json.Marshal",
            "slices.Grow[go.shape.[]int]",
        ] {
            assert!(is_std(std, Some("example.com/x")), "{std}");
        }
        for own in
            ["main.f", "main.F[net/http.Header]", "github.com/a/b.(*T).M", "demo/cache.Put", "demo.Run"]
        {
            assert!(!is_std(own, Some("demo")), "{own}");
        }
        assert!(is_std("demo/cache.Put", None));
    }
}
