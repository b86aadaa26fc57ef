//! What was typed: arguments, one plain function per command, exit codes. The only room that prints.
//!
//! clap's structs hold what was typed; [`crate::session::Setup`] holds what was meant. Reports go to stdout,
//! everything else to stderr, one line per error. A closed pipe is a normal end.

mod arguments;
mod check;
mod diff;
mod goroutines;
mod heap;
mod list;
mod output;
mod replay;
mod sessions;
mod stop_all;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{
    CommandFactory as _, Parser as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use arguments::{Arguments, Command};

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => return usage(&e),
    };
    let done = match arguments.command {
        None => sessions::session(&arguments.session),
        Some(Command::List) => list::list(),
        Some(Command::Check(target)) => check::check(&target),
        Some(Command::Goroutines(arguments)) => goroutines::goroutines(&arguments),
        Some(Command::Replay(arguments)) => replay::replay(&arguments),
        Some(Command::Heap(arguments)) => heap::heap(&arguments),
        Some(Command::Diff(arguments)) => diff::diff(&arguments),
        Some(Command::StopAll(arguments)) => stop_all::stop_all(&arguments),
        Some(Command::Completions { shell }) => completions(shell),
    };
    match done {
        Ok(code) => code,
        Err(e) if is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            say(&line(&e));
            ExitCode::from(ERROR)
        }
    }
}

/// One line for the person who runs it.
fn say(line: &str) {
    // With stderr closed there is nobody to tell.
    drop(writeln!(io::stderr().lock(), "tracer: {line}"));
}

/// The whole chain of an error in one line. Many errors already quote their source: that one is not said twice.
fn line(e: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in e.chain().map(ToString::to_string) {
        if line.contains(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line.replace('\n', " ")
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    // By way of a buffer: clap_complete panics where its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tracer", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// An error: one line said what to do next.
const ERROR: u8 = 2;

/// Help and version go to stdout and are no error; what was typed wrong is told in clap's words, on one line.
fn usage(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() {
        // A closed pipe while printing help is a normal end.
        drop(e.print());
        return ExitCode::SUCCESS;
    }
    let typed: Vec<String> = std::env::args().skip(1).collect();
    let next = next(e, &typed).unwrap_or_else(|| "see 'tracer --help'".to_owned());
    say(&format!("{}; {next}", complaint(&e.to_string())));
    ExitCode::from(ERROR)
}

/// What to do about the errors that are made most; absent for others.
fn next(e: &clap::Error, words: &[String]) -> Option<String> {
    let Some(ContextValue::String(wrong)) = e.get(ContextKind::InvalidArg) else { return None };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (e.kind(), words.as_slice()) {
        (ErrorKind::UnknownArgument, [pid] | ["heap" | "goroutines" | "check", pid])
            if pid.parse::<u32>().is_ok() =>
        {
            Some(format!("say --pid {pid}"))
        }
        (ErrorKind::ValueValidation, _) if wrong.starts_with("--pid") => {
            Some("`tracer list` shows the process ids; --name takes a name".to_owned())
        }
        _ => None,
    }
}

/// What is wrong in clap's words: its first paragraph and the values it would take, without tips and usage.
fn complaint(told: &str) -> String {
    let told = told.strip_prefix("error: ").unwrap_or(told);
    let said = told.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said = said.filter(|line| !line.is_empty() && !line.starts_with("tip:"));
    said.take_while(|line| !line.starts_with("For more information")).collect::<Vec<_>>().join(" ")
}

fn is_closed_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_wrong_is_told_on_one_line() {
        let told = |typed: &str| {
            let words = std::iter::once("tracer").chain(typed.split_whitespace());
            complaint(&Arguments::try_parse_from(words).unwrap_err().to_string())
        };
        assert_eq!(told("--pid x"), "invalid value 'x' for '--pid <N>': invalid digit found in string");
        assert!(told("--pid 1 --format f").ends_with("[possible values: text, json, jsonl, folded, pprof]"));
        assert_eq!(told("--pid -1"), "unexpected argument '-1' found");
        assert_eq!(
            told("goroutines"),
            "the following required arguments were not provided: <--pid <N>|--name <EXE>>"
        );
        assert_eq!(complaint(""), "");
    }

    #[test]
    fn a_bare_process_id_is_told_how_to_be_one() {
        let told = |typed: &str| {
            let words: Vec<String> = typed.split_whitespace().map(str::to_owned).collect();
            let all = std::iter::once("tracer").chain(typed.split_whitespace());
            next(&Arguments::try_parse_from(all).unwrap_err(), &words)
        };
        assert_eq!(told("4242").as_deref(), Some("say --pid 4242"));
        assert_eq!(told("heap 4242").as_deref(), Some("say --pid 4242"));
        for typed in ["list 4242", "--pid 1 4242", "replay f 4242", "hep", "-5"] {
            assert_eq!(told(typed), None, "{typed}");
        }
    }
}
