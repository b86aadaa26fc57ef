//! Who may import whom: the table of rooms in ARCHITECTURE.md against the paths that tracer-user's files name.
//!
//! Apart because it is the one rule that reads a document. Test code may name any room: it builds what the room under test is given.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::source::Source;

const USER: &str = "tracer-user/src/";

/// The contract crate has its own column entry, spelled as in Cargo.toml.
const CONTRACT: (&str, &str) = ("tracer_common", "tracer-common");

/// The rows `| room | may import | ...`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    /// Room, such as `units` or `goruntime::names`, and what it may import. None means everything.
    rooms: BTreeMap<String, Option<Vec<String>>>,
}

impl Table {
    pub(super) fn parse(document: &str) -> Result<Self, String> {
        let mut lines = document.lines().skip_while(|line| !line.starts_with("| room | may import |"));
        if lines.next().is_none() {
            return Err("ARCHITECTURE.md has no table that begins `| room | may import |`".to_owned());
        }
        let mut rooms = BTreeMap::new();
        for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [names, imports, ..] = cells[..] else {
                return Err(format!("ARCHITECTURE.md: this row has too few cells: {line}"));
            };
            let allowed = match imports.trim_matches('`') {
                "all" => None,
                "all above" => Some(rooms.keys().cloned().chain([CONTRACT.1.to_owned()]).collect()),
                "-" => Some(Vec::new()),
                list => Some(list.split(' ').map(str::to_owned).collect()),
            };
            for name in names.split(',') {
                rooms.insert(name.trim().to_owned(), allowed.clone());
            }
        }
        Ok(Self { rooms })
    }

    /// The most exact room that a module path lies in.
    fn room(&self, path: &[String]) -> Option<String> {
        (1..=path.len())
            .rev()
            .map(|length| path[..length].join("::"))
            .find(|name| self.rooms.contains_key(name))
    }

    fn allows(&self, from: &str, to: &str) -> bool {
        let outer = |name: &str| name.split_once("::").map(|(outer, _)| outer.to_owned());
        if from == to {
            return true;
        }
        let listed = |room: &str| match self.rooms.get(room) {
            Some(None) => true,
            // A room that is listed brings its sub-rooms, except where the two are neighbours inside one room.
            Some(Some(list)) => list.iter().any(|name| {
                name == to
                    || (outer(to).as_ref() == Some(name)
                        && outer(from) != outer(to)
                        && outer(to).as_deref() != Some(room))
            }),
            None => false,
        };
        // A sub-room may import what the room around it may.
        listed(from)
            || outer(from).is_some_and(|around| outer(to).as_deref() != Some(&around) && listed(&around))
    }
}

pub(super) fn check(source: &Source, table: &Table, violations: &mut Vec<Violation>) {
    let Some(own) = module_path(&source.name) else {
        return;
    };
    let mut broken = |line: usize, rule: String| {
        violations.push(Violation { file: source.name.clone(), line, rule });
    };
    let Some(from) = table.room(&own) else {
        broken(1, format!("`{}` is no room: give it a row in ARCHITECTURE.md's table", own.join("::")));
        return;
    };
    let named: BTreeSet<(usize, Result<String, String>)> = references(source, &own)
        .into_iter()
        .map(|(number, path)| match path[0].as_str() {
            name if name == CONTRACT.0 => (number, Ok(CONTRACT.1.to_owned())),
            _ => (number, table.room(&path).ok_or_else(|| path.join("::"))),
        })
        .collect();
    for (number, room) in named {
        match room {
            Ok(to) if table.allows(&from, &to) => {}
            Ok(to) => {
                broken(number, format!("`{from}` may not import `{to}`: ARCHITECTURE.md's table of rooms"));
            }
            Err(path) => broken(number, format!("`{path}` is no room of ARCHITECTURE.md's table")),
        }
    }
}

/// The module a file is, such as `["record", "event"]`; None for files outside the rooms.
fn module_path(name: &str) -> Option<Vec<String>> {
    let path: Vec<String> =
        name.strip_prefix(USER)?.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    match path.as_slice() {
        [only] if only == "lib" => None,
        [.., last] if last == "mod" => Some(path[..path.len() - 1].to_vec()),
        _ => Some(path),
    }
}

/// Every path from the crate's root that product code names, with its line.
fn references(source: &Source, own: &[String]) -> Vec<(usize, Vec<String>)> {
    // One text, so that a group of imports may span lines; test code is left out.
    let mut text = String::new();
    let mut starts = Vec::new();
    for (number, line) in source.product() {
        starts.push((text.len(), number));
        text.push_str(&line.code);
        text.push('\n');
    }
    let line_of =
        |at: usize| starts.iter().rev().find(|(start, _)| *start <= at).map_or(1, |(_, number)| *number);
    let mut found = Vec::new();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    for root in ["crate::", "tracer_user::"] {
        for (at, _) in text.match_indices(root) {
            if !text[..at].chars().next_back().is_some_and(|c| word(c) || c == '$' || c == ':') {
                for path in expand(&text[at + root.len()..]) {
                    found.push((line_of(at), path));
                }
            }
        }
    }
    for (at, _) in text.match_indices(CONTRACT.0) {
        let end = at + CONTRACT.0.len();
        if !text[..at].chars().next_back().is_some_and(word) && text[end..].starts_with("::") {
            found.push((line_of(at), vec![CONTRACT.0.to_owned()]));
        }
    }
    for (at, _) in text.match_indices("super::") {
        if text[..at].ends_with("super::") || text[..at].chars().next_back().is_some_and(word) {
            continue;
        }
        let mut rest = &text[at..];
        let mut ups = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            rest = after;
            ups += 1;
        }
        // Deeper inline modules make this lenient, never wrong: what stays inside the room is allowed anyway.
        if let Some(left) = own.len().checked_sub(ups) {
            for path in expand(rest) {
                let full = own[..left].iter().cloned().chain(path).collect();
                found.push((line_of(at), full));
            }
        }
    }
    found.retain(|(_, path)| !path.is_empty());
    found
}

/// The paths at the start of `text`: one, or each of a braced group. Only as deep as a sub-room's name.
fn expand(text: &str) -> Vec<Vec<String>> {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        return split_group(group).into_iter().flat_map(expand).collect();
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    if end == 0 {
        return vec![Vec::new()];
    }
    let head = text[..end].to_owned();
    match text[end..].strip_prefix("::") {
        Some(rest) => expand(rest)
            .into_iter()
            .map(|path| std::iter::once(head.clone()).chain(path).take(3).collect())
            .collect(),
        None => vec![vec![head]],
    }
}

/// The parts of a braced group, split at its own commas.
fn split_group(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# x\n\n| room | may import | I/O |\n|---|---|---|\n| units | - | no |\n| record | units tracer-common | no |\n\
        | binary | units | no |\n| goruntime | units binary | no |\n| goruntime::names | goruntime | no |\n| goruntime::state | goruntime goruntime::names | no |\n\
        | symbolize | units goruntime::names | no |\n| kernel | units | yes |\n| session | all above | yes |\n| view, serve | record session | yes |\n| cli, main | all | yes |\n\nend";

    fn broken(name: &str, text: &str) -> Vec<String> {
        let table = Table::parse(DOCUMENT).unwrap();
        let mut violations = Vec::new();
        check(&Source::new(&format!("{USER}{name}"), text), &table, &mut violations);
        violations.into_iter().map(|violation| format!("{}: {}", violation.line, violation.rule)).collect()
    }

    fn quiet(name: &str, text: &str) {
        assert_eq!(broken(name, text), Vec::<String>::new(), "{name}: {text}");
    }

    fn refuses(name: &str, text: &str, what: &str) {
        let found = broken(name, text);
        assert!(found.len() == 1 && found[0].contains(what), "{name}: {text}: {found:?}");
    }

    #[test]
    fn what_the_table_allows_is_quiet() {
        quiet(
            "record/mod.rs",
            "use crate::units::Bytes; use tracer_common::key::Key; use self::event::Event;",
        );
        quiet("record/event.rs", "use crate::{units::Bytes, record::note::{A, B}}; use super::note::C;");
        quiet(
            "session/mod.rs",
            "use crate::goruntime::names::X; use crate::kernel::Y; use tracer_common::A;",
        );
        quiet(
            "goruntime/state/mod.rs",
            "use crate::goruntime::names::X; use super::version; use crate::binary::A;",
        );
        quiet("symbolize/mod.rs", "use crate::goruntime::names::X;");
        quiet("main.rs", "fn main() { tracer_user::session::run(tracer_user::kernel::K) }");
        quiet("view/mod.rs", "// crate::kernel is not for us\nconst A: &str = \"crate::kernel::B\";");
        quiet("units.rs", "#[cfg(test)]\nmod tests { use crate::kernel::A; }");
    }

    #[test]
    fn what_it_does_not_allow_is_named() {
        refuses("units.rs", "use crate::record::A;", "1: `units` may not import `record`");
        refuses("units.rs", "\nuse super::record::A;", "2: `units` may not import `record`");
        refuses("record/event.rs", "use super::super::kernel::A;", "may not import `kernel`");
        refuses(
            "record/event.rs",
            "use crate::{\n units::A,\n kernel::{B, C},\n};",
            "may not import `kernel`",
        );
        refuses("symbolize/mod.rs", "use crate::goruntime::state::A;", "may not import `goruntime");
        refuses("symbolize/mod.rs", "use crate::goruntime::GoImage;", "may not import `goruntime`");
        refuses("goruntime/names/mod.rs", "use crate::goruntime::state::A;", "may not import `goruntime");
        refuses("goruntime/version.rs", "use super::names::A;", "may not import `goruntime");
        refuses("units.rs", "use tracer_common::key::Key;", "may not import `tracer-common`");
        refuses("view/mod.rs", "use crate::kernel::B;", "may not import `kernel`");
        refuses("serve/mod.rs", "fn f(x: crate::binary::B) {}", "may not import `binary`");
    }

    #[test]
    fn a_room_without_a_row_is_named() {
        refuses("stray.rs", "fn f() {}", "`stray` is no room");
        refuses("record/mod.rs", "use crate::stray::A;", "is no room");
    }

    #[test]
    fn a_document_without_the_table_is_an_error() {
        assert!(Table::parse("# nothing").is_err());
    }
}
