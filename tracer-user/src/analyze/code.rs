//! Places in the program's code, in words. They say what code names a type as it allocates, never which of it made what lives: generic
//! code, reflection and plugins name it nowhere.

use super::own;
use crate::symbolize::evidence::{Frame, Places, file_line};

/// Places named in one sentence.
const NAMED: usize = 3;

/// "code that names main.T as it allocates: main.f (main.go:12)"; `None` where there is none.
pub(super) fn sentence(places: &Places, does: &str, what: &str, module: Option<&str>) -> Option<String> {
    // A function that the compiler inlined into several is one place to a reader.
    let mut named: Vec<String> = Vec::new();
    for frame in places.places.iter().filter_map(|p| own::place(&p.stack, module)) {
        let at = at(&frame);
        if !named.contains(&at) {
            named.push(at);
        }
    }
    let more = named.len() > NAMED || places.more > 0;
    named.truncate(NAMED);
    let more = if more { " and more" } else { "" };
    (!named.is_empty()).then(|| format!("code that names {what} as it {does}: {}{more}", named.join(", ")))
}

/// "main.f (main.go:12)".
fn at(frame: &Frame) -> String {
    match file_line(&frame.file, frame.line) {
        unknown if unknown.is_empty() => frame.function.clone(),
        place => format!("{} ({place})", frame.function),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::evidence::{Cause, Line, Place};

    fn place(function: &str, line: u32, caller: &str) -> Place {
        let frame = |function: &str, line| {
            Frame::from(Line {
                function: function.into(),
                file: "/src/x/main.go".into(),
                line,
                ..Line::default()
            })
        };
        Place { stack: vec![frame(function, line), frame(caller, 99)], cause: Cause::New }
    }

    fn say(places: Vec<Place>, more: u64) -> Option<String> {
        sentence(&Places { places, more }, "allocates", "main.T", None)
    }

    #[test]
    fn places_are_named_once_and_what_is_left_out_is_said() {
        let one = "code that names main.T as it allocates: main.f (main.go:12)";
        assert_eq!(say(vec![place("main.f", 12, "main.a")], 0).as_deref(), Some(one));
        let inlined = vec![place("main.f", 12, "main.a"), place("main.f", 12, "main.b")];
        assert_eq!(say(inlined, 0).as_deref(), Some(one));
        let four = (1..5).map(|line| place("main.f", line, "main.a")).collect();
        assert_eq!(
            say(four, 0).as_deref(),
            Some(
                "code that names main.T as it allocates: main.f (main.go:1), main.f (main.go:2), main.f (main.go:3) and more"
            )
        );
        assert_eq!(say(vec![place("main.f", 12, "main.a")], 2), Some(format!("{one} and more")));
        assert_eq!((say(vec![], 0), say(vec![], 7)), (None, None));
    }
}
