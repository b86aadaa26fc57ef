//! A session told line by line, put together again as the report it ends with, for what is compared of it.
//!
//! Rows count only where the session came to its end: of a session that broke, some may have been written and some not,
//! and a site without a row would seem to hold nothing. What is told as it goes (the live heap, RSS) counts as far as it
//! was told. Foreign bytes: memory is bounded by the file, which the caller bounds.

use serde_json::{Map, Value, json};

use super::diff_input::InputError;
use super::model::SCHEMA;

/// Rows of the end: what a line is, and where its row belongs in a report.
const ROWS: [(&str, &str); 5] = [
    ("allocation", "allocations"),
    ("heap_type", "types"),
    ("size_class", "size_classes"),
    ("goroutine_site", "sites"),
    ("map", "maps"),
];

/// One session, as far as it was told.
struct Told {
    target: Value,
    session: Value,
    live_bytes: Value,
    rss_bytes: Value,
    rows: [Vec<Value>; ROWS.len()],
}

/// The last session that came to its end, or the last one where none did. `first` is its first line; `rest` gives the
/// others, as one that was cut in two may not.
pub(super) fn report(
    first: Value,
    rest: impl Iterator<Item = serde_json::Result<Value>>,
) -> Result<Value, InputError> {
    let mut whole = None;
    let mut told = Told::begin(first);
    for line in rest {
        let mut line = match line {
            Ok(line) => line,
            // Whoever wrote it was interrupted.
            Err(e) if e.is_eof() => break,
            Err(e) => return Err(InputError::Unknown(format!("not JSON, {e}"))),
        };
        match line.get("line").and_then(Value::as_str) {
            Some("session") => told = Told::begin(line),
            Some("heap") => told.live_bytes = take(&mut line, "live_bytes"),
            Some("process") => told.rss_bytes = take(&mut line, "rss_bytes"),
            Some("end") => {
                told.session = take(&mut line, "session");
                whole = Some(told.report(true));
                told.rows = Default::default();
            }
            // Findings and what is said of samples are not compared.
            kind => {
                if let Some(at) = ROWS.iter().position(|(name, _)| Some(*name) == kind) {
                    let row = take(&mut line, ROWS[at].0);
                    told.rows[at].push(row);
                }
            }
        }
    }
    Ok(whole.unwrap_or_else(|| told.report(false)))
}

impl Told {
    fn begin(mut line: Value) -> Self {
        Self {
            target: take(&mut line, "target"),
            session: take(&mut line, "session"),
            live_bytes: Value::Null,
            rss_bytes: Value::Null,
            rows: Default::default(),
        }
    }

    fn report(&mut self, ended: bool) -> Value {
        let mut rows = Map::new();
        for ((_, place), of) in ROWS.iter().zip(&mut self.rows) {
            let of = std::mem::take(of);
            rows.insert((*place).to_owned(), if ended { Value::Array(of) } else { Value::Null });
        }
        let mut row = |place: &str| rows.get_mut(place).map_or(Value::Null, Value::take);
        json!({
            "schema": SCHEMA,
            "target": self.target,
            "session": self.session,
            "heap": {
                "live_bytes": self.live_bytes,
                "types": row("types"),
                "size_classes": row("size_classes"),
            },
            "process": { "rss_bytes": self.rss_bytes },
            "allocations": row("allocations"),
            "goroutines": { "sites": row("sites") },
            "maps": row("maps"),
        })
    }
}

fn take(line: &mut Value, name: &str) -> Value {
    line.get_mut(name).map_or(Value::Null, Value::take)
}

#[cfg(test)]
mod tests {
    use crate::report::diff_input::{Input, InputError, Section};

    const SESSION: &str = r#"{"line":"session","schema":"tracer.lines/1","target":{"exe":"/bin/shop"},
        "session":{"started_at":"2026-01-01T00:00:00Z","duration_s":0.0}}"#;
    const POINTS: &str = r#"{"line":"heap","t":1.0,"gc_cycle":3,"live_bytes":10}
        {"line":"process","t":1.0,"rss_bytes":70}
        {"line":"heap","t":2.0,"gc_cycle":4,"live_bytes":20}
        {"line":"goroutines","t":2.0,"live":4}"#;
    const ROWS: &str = r#"{"line":"allocation","t":2.0,"allocation":{"site":"a","allocated":{"bytes":8}}}
        {"line":"map","t":2.0,"map":{"id":"m","entries":5}}
        {"line":"goroutine_site","t":2.0,"goroutine_site":{"site":"g","count":4}}
        {"line":"heap_type","t":2.0,"heap_type":{"type":"main.T","bytes":9}}
        {"line":"size_class","t":2.0,"size_class":{"class":1,"bytes":8,"total_bytes":16}}"#;
    const END: &str =
        r#"{"line":"end","t":2.0,"session":{"started_at":"2026-01-01T00:00:00Z","duration_s":2.0}}"#;

    fn read(parts: &[&str]) -> Input {
        Input::read(parts.join("\n").as_bytes()).unwrap()
    }

    fn value(input: &Input, section: Section, id: &str) -> Option<f64> {
        Some(input.sections.get(&section)?.get(id)?.value)
    }

    #[test]
    fn a_session_that_ended_gives_its_last_points_and_all_rows() {
        let input = read(&[SESSION, POINTS, ROWS, END]);
        assert_eq!(input.program.as_deref(), Some("shop"));
        assert_eq!(input.began.as_deref(), Some("2026-01-01T00:00:00Z"));
        for (section, id, expected) in [
            (Section::Totals, "live heap", 20.0),
            (Section::Totals, "RSS", 70.0),
            (Section::Allocated, "a", 4.0),
            (Section::Maps, "m", 5.0),
            (Section::Goroutines, "g", 4.0),
            (Section::Types, "main.T", 9.0),
            (Section::SizeClasses, "8", 16.0),
        ] {
            assert_eq!(value(&input, section, id), Some(expected), "{id} in {input:?}");
        }
    }

    #[test]
    fn of_a_session_that_broke_only_what_was_told_as_it_went_counts() {
        let torn = &END[..END.len() - 9];
        for parts in [&[SESSION, POINTS, ROWS][..], &[SESSION, POINTS, ROWS, torn]] {
            let input = read(parts);
            assert_eq!(input.sections.keys().collect::<Vec<_>>(), [&Section::Totals], "{input:?}");
            assert_eq!(value(&input, Section::Totals, "live heap"), Some(20.0));
        }
    }

    #[test]
    fn of_several_sessions_it_is_the_last_that_ended() {
        let again = POINTS.replace("\"live_bytes\":20", "\"live_bytes\":33");
        let input = read(&[SESSION, POINTS, ROWS, END, SESSION, &again, END]);
        assert_eq!(value(&input, Section::Totals, "live heap"), Some(33.0));
        assert_eq!(value(&input, Section::Maps, "m"), None, "the rows of the session before");
        let input = read(&[SESSION, POINTS, ROWS, END, SESSION, &again]);
        assert_eq!(value(&input, Section::Totals, "live heap"), Some(20.0));
        assert_eq!(value(&input, Section::Maps, "m"), Some(5.0));
    }

    #[test]
    fn a_total_that_lines_do_not_tell_is_no_zero() {
        let report = br#"{"schema": "tracer.report/1", "heap": {"live_bytes": 25},
            "process": {"rss_bytes": 70, "go_stack_bytes": 9}}"#;
        let diff =
            crate::report::diff::Diff::of(&[read(&[SESSION, POINTS, END]), Input::read(report).unwrap()]);
        let [(Section::Totals, changes)] = &diff.sections[..] else { panic!("{diff:?}") };
        assert_eq!(changes.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["live heap"]);
    }

    #[test]
    fn a_damaged_line_is_named_and_two_reports_in_one_file_are_none() {
        let refused = |bytes: String| match Input::read(bytes.as_bytes()) {
            Err(InputError::Unknown(why)) => why,
            other => panic!("{other:?}"),
        };
        let why = refused(format!("{}\nrubbish\n{END}\n", SESSION.replace('\n', "")));
        assert!(why.contains("line 2"), "{why}");
        let why = refused("{\"schema\": \"tracer.report/1\"}\n{}\n".to_owned());
        assert!(why.contains("line 2") && why.contains("trailing"), "{why}");
    }
}
