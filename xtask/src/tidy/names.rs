//! What every file must have: its first line, a bound on its size, a name that says something, no unfinished work.
//! It looks at one file at a time and knows no room.

use std::path::Path;

use super::Violation;
use super::source::{Source, has_word};

const HARD_LIMIT: usize = 800;

const FORBIDDEN: [&str; 6] = ["utils", "util", "helpers", "common", "shared", "misc"];

pub(super) fn check(source: &Source, violations: &mut Vec<Violation>) {
    let mut broken = |line: usize, rule: String| {
        violations.push(Violation { file: source.name.clone(), line, rule });
    };
    if !source.first.starts_with("//!") {
        broken(1, "open the file with `//!`: what it is, why it is apart, what it must never do".into());
    }
    let generated = source.first.contains("@generated");
    if source.lines.len() > HARD_LIMIT && !generated {
        broken(
            HARD_LIMIT,
            format!("{} lines: split it at a concept, {HARD_LIMIT} is the limit", source.lines.len()),
        );
    }
    for part in Path::new(&source.name).with_extension("").iter().skip(1) {
        if let Some(name) = FORBIDDEN.iter().find(|name| part == **name) {
            broken(1, format!("`{name}` says nothing: name the module by the domain's word"));
        }
    }
    for (number, line) in source.numbered() {
        for name in FORBIDDEN {
            if has_word(&line.code, &format!("mod {name}")) {
                broken(number, format!("`{name}` says nothing: name the module by the domain's word"));
            }
        }
        let code: String = line.code.chars().filter(|c| *c != ' ').collect();
        if code.contains("#[ignore") {
            broken(number, "no `#[ignore]`: assert what happens today, with a FIXME".into());
        }
        for name in ["todo", "unimplemented", "dbg"] {
            if has_word(&line.code, name) && code.contains(&format!("{name}!(")) {
                broken(number, format!("no `{name}!`: finish it, or assert what happens today"));
            }
        }
        if code.contains("#[allow(") || code.contains("#![allow(") {
            broken(number, "no `#[allow]`: use `#[expect(lint, reason = \"...\")]`".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(name: &str, text: &str) -> Vec<(usize, String)> {
        let mut violations = Vec::new();
        check(&Source::new(name, text), &mut violations);
        violations.into_iter().map(|violation| (violation.line, violation.rule)).collect()
    }

    #[test]
    fn a_file_that_keeps_the_rules_is_quiet() {
        assert_eq!(rules("tracer-user/src/units.rs", "//! Units.\nfn f() {} // todo!()\n"), []);
        assert_eq!(
            rules("tracer-common/src/lib.rs", "//! The contract.\nconst A: &str = \"#[ignore]\";"),
            []
        );
    }

    #[test]
    fn each_rule_fires() {
        let fires = |name: &str, text: &str, line: usize, word: &str| {
            let found = rules(name, text);
            assert!(found.len() == 1 && found[0].0 == line && found[0].1.contains(word), "{name}: {found:?}");
        };
        fires("xtask/src/a.rs", "fn f() {}", 1, "//!");
        fires("xtask/src/utils.rs", "//! A.", 1, "utils");
        fires("xtask/src/misc/a.rs", "//! A.", 1, "misc");
        fires("xtask/src/a.rs", "//! A.\nmod helpers { }", 2, "helpers");
        fires("xtask/src/a.rs", "//! A.\n#[ignore = \"x\"]", 2, "ignore");
        fires("xtask/src/a.rs", "//! A.\n\n todo!()", 3, "todo");
        fires("xtask/src/a.rs", "//! A.\n#![allow(dead_code)]", 2, "expect");
        fires("xtask/src/a.rs", &format!("//! A.{}", "\n".repeat(801)), 800, "limit");
        assert_eq!(rules("xtask/src/a.rs", &format!("//! @generated{}", "\n".repeat(801))), []);
    }
}
