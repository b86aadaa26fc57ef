//! From named frames to the frames a user should see, and the stable id of a site.

use super::evidence::Frame;
use crate::goruntime::names::cause::{is_allocator, is_bottom, is_runtime, is_runtime_goroutine};

/// The user's part of a stack and what was cut off in front of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct UserStack {
    /// Innermost first. The runtime's own frames where there are no others; empty where nothing is known.
    pub frames: Vec<Frame>,
    /// The runtime functions in front of the user's code, innermost first.
    pub runtime: Vec<String>,
}

/// Takes the runtime's frames off both ends and hides wrappers, as the runtime's own tracebacks do, unless
/// nothing else would be left.
pub(super) fn user_part(all: Vec<Frame>) -> UserStack {
    let lead = all.iter().take_while(|f| is_runtime(&f.function)).count();
    if lead == all.len() {
        // The runtime's own: nothing to take off but the bottom of every stack.
        let runtime = all.iter().map(|f| f.function.clone()).collect();
        let frames = all.into_iter().filter(|f| !is_bottom(&f.function)).collect();
        return UserStack { frames, runtime };
    }
    let runtime = all[..lead].iter().map(|f| f.function.clone()).collect();
    let tail = all.iter().rev().take_while(|f| is_runtime(&f.function)).count();
    let user = &all[lead..all.len() - tail];
    let plain: Vec<Frame> = user.iter().filter(|f| !f.wrapper).cloned().collect();
    UserStack { frames: if plain.is_empty() { user.to_vec() } else { plain }, runtime }
}

/// The same for the stack of an allocation. What the allocator allocates itself, such as what it waits for a
/// collection with or a thread to run one on, is the runtime's: the function that happened to allocate then did not
/// ask for it, and would be charged with something else each time.
pub(super) fn allocation_part(mut all: Vec<Frame>) -> UserStack {
    let asked = all.iter().take_while(|f| is_allocator(&f.function)).count();
    let mut lead = all.iter().take_while(|f| is_runtime(&f.function)).skip(asked);
    if let Some(further) = lead.position(|f| is_allocator(&f.function)) {
        all.truncate(asked + further);
    }
    user_part(all)
}

/// The user's frames of a whole stack and their id: what a report that was made elsewhere is compared by.
pub fn user_site(all: Vec<Frame>) -> (String, Vec<Frame>) {
    let frames = allocation_part(all).frames;
    let id = if frames.is_empty() { "unknown".to_owned() } else { site_id(&frames) };
    (id, frames)
}

/// Whether a goroutine's stack, innermost frame first, is of the runtime's own. One that runs a program's finalizer is the
/// program's.
pub fn is_of_the_runtime(stack: &[Frame]) -> bool {
    let start = stack.iter().rfind(|frame| !is_bottom(&frame.function));
    start.is_some_and(|frame| is_runtime_goroutine(&frame.function, None))
        && outside_the_runtime(stack).is_none()
}

/// The innermost frame that is not the runtime's.
pub fn outside_the_runtime(stack: &[Frame]) -> Option<&Frame> {
    stack.iter().find(|frame| !is_runtime(&frame.function))
}

/// The id of a stack: FNV-1a over function names and lines, 12 hex digits. Files are left out, because the
/// directory a program is built in moves more often than its code.
pub(super) fn site_id(frames: &[Frame]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for b in bytes {
            hash = (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for f in frames {
        eat(f.function.as_bytes());
        eat(&[0]);
        eat(&f.line.to_le_bytes());
    }
    format!("{:012x}", hash & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Line;
    use super::*;

    fn frame(function: &str, wrapper: bool) -> Frame {
        Frame::from(Line { function: function.into(), line: 7, wrapper, ..Line::default() })
    }

    fn check(all: &[(&str, bool)], want: &[&str]) {
        let part = user_part(all.iter().map(|(f, w)| frame(f, *w)).collect());
        let got: Vec<&str> = part.frames.iter().map(|f| f.function.as_str()).collect();
        assert_eq!(got, want, "{all:?}");
    }

    #[test]
    fn the_runtime_is_cut_off_both_ends_but_not_from_the_middle() {
        check(
            &[
                ("runtime.newobject", false),
                ("main.f", false),
                ("main.main", false),
                ("runtime.main", false),
                ("runtime.goexit", false),
            ],
            &["main.f", "main.main"],
        );
        check(
            &[("main.recover1", false), ("runtime.gopanic", false), ("main.g", false)],
            &["main.recover1", "runtime.gopanic", "main.g"],
        );
        check(&[("runtime.malg", false), ("runtime.goexit", false)], &["runtime.malg"]);
        check(&[], &[]);
    }

    #[test]
    fn what_the_allocator_allocates_is_the_runtimes() {
        let check = |all: &[&str], want: &[&str]| {
            let part = allocation_part(all.iter().map(|f| frame(f, false)).collect());
            let got: Vec<&str> = part.frames.iter().map(|f| f.function.as_str()).collect();
            assert_eq!(got, want, "{all:?}");
        };
        check(&["runtime.newobject", "main.f", "runtime.main"], &["main.f"]);
        check(&["runtime.mallocgc", "runtime.newobject", "main.f"], &["main.f"]);
        let waits = ["runtime.newobject", "runtime.acquireSudog", "runtime.gcStart"];
        check(&[&waits[..], &["runtime.mallocgc", "runtime.newobject", "main.f"]].concat(), &waits);
        check(
            &[&["runtime.mallocgc"], &waits[..], &["runtime.mallocgcLarge", "main.f"]].concat(),
            &["runtime.mallocgc", waits[0], waits[1], waits[2]],
        );
    }

    #[test]
    fn wrappers_hide_unless_alone() {
        check(&[("main.f", false), ("main.(*T).f", true)], &["main.f"]);
        check(&[("main.main.gowrap1", true), ("runtime.goexit", false)], &["main.main.gowrap1"]);
    }

    #[test]
    fn an_id_follows_functions_and_lines_and_not_directories() {
        let a = Line { function: "main.f".into(), line: 7, ..Line::default() };
        let id = |line: Line| site_id(&[line.into()]);
        let one = id(a.clone());
        assert_eq!(id(Line { file: "/build/2/x.go".into(), ..a.clone() }), one);
        assert_ne!(id(Line { line: 8, ..a }), one);
        assert_eq!(one.len(), 12);
    }
}
