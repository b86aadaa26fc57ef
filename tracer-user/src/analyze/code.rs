//! Places in the program's code, in words. They say what code can make a thing, not which of it did.

use super::own;
use crate::symbolize::evidence::{Frame, Place, Places};

/// Places named in one sentence.
const NAMED: usize = 3;

/// The one place there is: nothing else in the program's code names the type.
pub(super) fn only(places: Option<&Places>) -> Option<&Place> {
    let places = places.filter(|p| p.more == 0)?;
    let [one] = places.places.as_slice() else { return None };
    Some(one)
}

/// "the program's code makes main.T in one place, main.f (main.go:12)".
pub(super) fn sentence(places: &Places, verb: &str, what: &str, module: Option<&str>) -> String {
    let all = places.places.len() as u64 + places.more;
    let named: Vec<String> = places
        .places
        .iter()
        .filter_map(|p| own::place(&p.stack, module))
        .take(NAMED)
        .map(|f| at(&f))
        .collect();
    match (all, named.as_slice()) {
        (0, _) | (_, []) => {
            format!(
                "no code of the program names {what} as it {verb} them: generic code, reflection or a plugin does"
            )
        }
        (1, [one, ..]) => format!("the program's code {verb} {what} in one place: {one}"),
        (_, named) => {
            let more = all - named.len() as u64;
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("the program's code {verb} {what} in {all} places: {}{rest}", named.join(", "))
        }
    }
}

/// "main.f (main.go:12)".
fn at(frame: &Frame) -> String {
    let file = frame.file.rsplit('/').next().unwrap_or_default();
    if file.is_empty() {
        return frame.function.clone();
    }
    format!("{} ({file}:{})", frame.function, frame.line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::evidence::{Cause, Line};

    fn place(function: &str, line: u32) -> Place {
        let frame =
            Line { function: function.into(), file: "/src/x/main.go".into(), line, ..Line::default() };
        Place { stack: vec![frame.into()], cause: Cause::New }
    }

    #[test]
    fn places_are_named_and_counted() {
        let say = |places: Vec<Place>, more| sentence(&Places { places, more }, "allocates", "main.T", None);
        assert_eq!(
            say(vec![place("main.f", 12)], 0),
            "the program's code allocates main.T in one place: main.f (main.go:12)"
        );
        let four = (1..5).map(|line| place("main.f", line)).collect();
        assert_eq!(
            say(four, 2),
            "the program's code allocates main.T in 6 places: main.f (main.go:1), main.f (main.go:2), main.f (main.go:3) and 3 more"
        );
        assert_eq!(
            say(vec![], 0),
            "no code of the program names main.T as it allocates them: generic code, reflection or a plugin does"
        );
    }

    #[test]
    fn one_place_of_several_is_not_the_only_one() {
        let places = |places: Vec<Place>, more| Places { places, more };
        assert_eq!(only(None), None);
        assert_eq!(only(Some(&places(vec![], 0))), None);
        assert_eq!(only(Some(&places(vec![place("main.f", 1)], 1))), None);
        assert_eq!(only(Some(&places(vec![place("main.f", 1)], 0))), Some(&place("main.f", 1)));
    }
}
