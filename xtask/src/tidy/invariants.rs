//! The invariants of ARCHITECTURE.md that a search can see. Each has its sentence; none knows the import table.

use super::Violation;
use super::source::{Line, Source, has_word};

const USER: &str = "tracer-user/src/";
const EBPF: &str = "tracer-ebpf/";

/// Ways to write to another process, to stop it, or to take over its return addresses.
const WRITES: [&str; 9] = [
    "process_vm_writev",
    "PTRACE_POKEDATA",
    "PTRACE_POKETEXT",
    "PTRACE_POKEUSR",
    "PTRACE_SETREGS",
    "PTRACE_ATTACH",
    "SIGSTOP",
    "uretprobe",
    "kretprobe",
];

/// Files, and rooms by their folder.
const SERDE_PLACES: [&str; 3] =
    ["tracer-user/src/report/model", "tracer-user/src/record/", "tracer-user/src/units.rs"];

const UNSAFE_PLACES: [&str; 3] =
    ["tracer-user/src/kernel/", "tracer-user/src/host/memory.rs", "tracer-user/src/host/launch.rs"];

pub(super) fn check(source: &Source, violations: &mut Vec<Violation>) {
    let name = source.name.as_str();
    let user = name.starts_with(USER);
    let ebpf = name.starts_with(EBPF);
    let product = user || ebpf || name.starts_with("tracer-common/");
    if !product {
        return;
    }
    let goruntime = name.starts_with("tracer-user/src/goruntime/");
    let mut broken = |line: usize, rule: &str| {
        violations.push(Violation { file: source.name.clone(), line, rule: rule.to_owned() });
    };
    for (number, line) in source.product() {
        if !goruntime && (names_runtime_symbol(&line.strings) || names_go_version(line)) {
            broken(number, "only goruntime/ names a `runtime.` symbol or a Go version");
        }
        if let Some(word) =
            WRITES.iter().find(|word| has_word(&line.code, word) || line.strings.contains(**word))
        {
            broken(number, &format!("the target is never written to, stopped or probed on return: `{word}`"));
        }
        let serde = has_word(&line.code, "Serialize") || has_word(&line.code, "Deserialize");
        if serde && line.code.contains("derive") && !SERDE_PLACES.iter().any(|place| name.starts_with(place))
        {
            broken(number, "serde derives stand in report/model, record/ and units.rs only");
        }
        if user
            && has_word(&line.code, "unsafe")
            && !UNSAFE_PLACES.iter().any(|place| name.starts_with(place))
        {
            broken(number, "unsafe stands in kernel/, host/memory.rs and host/launch.rs only");
        }
    }
}

/// `runtime.` followed by a name, as in a symbol of the Go runtime.
fn names_runtime_symbol(strings: &str) -> bool {
    const PREFIX: &str = "runtime.";
    strings.match_indices(PREFIX).any(|(at, _)| {
        let before = strings[..at].chars().next_back();
        let after = strings[at + PREFIX.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && after.is_some_and(|c| c.is_alphabetic() || c == '_' || c == '(')
    })
}

/// `go1.26` or `Go 1.26` in a string, `go1_26` or `GO_1_26` in code.
fn names_go_version(line: &Line) -> bool {
    let digit_follows = |text: &str, mark: &str| {
        text.match_indices(mark)
            .any(|(at, _)| text[at + mark.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    ["go1.", "Go 1."].iter().any(|mark| digit_follows(&line.strings, mark))
        || ["go1_", "go_1_", "GO_1_", "GO1_"].iter().any(|mark| digit_follows(&line.code, mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str, text: &str) -> usize {
        let mut violations = Vec::new();
        check(&Source::new(name, text), &mut violations);
        violations.len()
    }

    #[test]
    fn go_knowledge_stays_in_its_room() {
        assert_eq!(count("tracer-user/src/host/a.rs", "let a = \"runtime.mallocgc\";"), 1);
        assert_eq!(count("tracer-user/src/host/a.rs", "let a = \"go1.26\";"), 1);
        assert_eq!(count("tracer-user/src/host/a.rs", "let a = \"Go 1.19 to 1.27\";"), 1);
        assert_eq!(
            count("tracer-user/src/cli/a.rs", "let a = \"the runtime. It\"; let b = \"--sampler runtime\";"),
            0
        );
        assert_eq!(count("tracer-user/src/host/a.rs", "// runtime.mallocgc of go1.26\n"), 0);
        assert_eq!(count("tracer-user/src/goruntime/a.rs", "let a = \"runtime.mallocgc\";"), 0);
        assert_eq!(
            count("tracer-user/src/host/a.rs", "#[cfg(test)]\nmod tests { const A: &str = \"go1.26\"; }"),
            0
        );
        assert_eq!(count("tracer-ebpf/src/a.rs", "const GO_1_26: u32 = 1;"), 1);
        assert_eq!(count("xtask/src/toolchains.rs", "const A: &str = \"go1.26\";"), 0);
    }

    #[test]
    fn the_target_is_left_alone() {
        for text in [
            "process_vm_writev(pid)",
            "kill(pid, SIGSTOP)",
            "#[uretprobe] fn f() {}",
            "let a = \"uretprobe/x\";",
        ] {
            assert_eq!(count("tracer-ebpf/src/a.rs", text), 1, "{text}");
        }
        assert_eq!(count("tracer-ebpf/src/a.rs", "// never a uretprobe\n#[uprobe] fn f() {}"), 0);
    }

    #[test]
    fn serde_and_unsafe_have_their_places() {
        assert_eq!(count("tracer-user/src/aggregate/a.rs", "#[derive(Clone, Serialize)]"), 1);
        assert_eq!(count("tracer-user/src/record/a.rs", "#[derive(Clone, Serialize)]"), 0);
        assert_eq!(count("tracer-user/src/units.rs", "#[derive(Clone, Serialize)]"), 0);
        assert_eq!(count("tracer-user/src/report/model.rs", "#[derive(Clone, Serialize)]"), 0);
        assert_eq!(count("tracer-user/src/report/json.rs", "use serde::Serialize;"), 0);
        assert_eq!(count("tracer-user/src/record/a.rs", "unsafe { f() }"), 1);
        assert_eq!(count("tracer-user/src/kernel/links.rs", "unsafe { f() }"), 0);
        assert_eq!(count("tracer-ebpf/src/a.rs", "unsafe { f() }"), 0);
    }
}
