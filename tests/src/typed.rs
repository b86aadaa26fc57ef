//! What a census says of the objects of the fixture `typed`, beside what the fixture keeps: which share of their bytes has
//! its type, which is told among others, which is told wrong.
//!
//! Apart from the test because `cargo xtask accuracy` makes a page of the same figures. The truth is the fixture's own account
//! of every object with pointers that it keeps and whose type has one name in every Go.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use xtask::accuracy::Types;

use crate::readings;
use crate::report::{list, number, text};
use crate::target::Target;

/// Objects above this size have no type before Go 1.22.
const SMALL: u64 = 512;

/// What may be of a type beside what the fixture told, per session: its package-level values and its answers.
const BESIDE: f64 = 4096.0;

/// Of a hundred comparisons one is three errors off now and then.
const ERRORS: f64 = 5.0;

/// One program's account, and a reading of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Session {
    pub kept: Value,
    pub report: Value,
}

impl Session {
    /// Reads a program that keeps `objects` of most of its types so many times, each time another sample: a sample is of a GC
    /// cycle, and two cycles pass between.
    pub fn several(program: &Path, objects: u32, readings: usize) -> Vec<Self> {
        let mut target = Target::start(program);
        let kept = target.ask(&format!("keep {objects}"));
        let read = |n| {
            if n > 0 {
                target.ask("gc");
            }
            Self { kept: kept.clone(), report: readings::read(&target) }
        };
        (0..readings).map(read).collect()
    }
}

/// Readings that are added up where only objects up to 512 bytes have types: several types share a size class and its sample,
/// and what one of them has too few of is not made up for by another.
pub const SMALL_READINGS: usize = 4;

/// Bytes of the runtime's and the library's types in a program that keeps nothing: 12 KiB were seen.
const OTHERS: f64 = 32.0 * 1024.0;

/// A row of the report, by one of the names it may have.
pub fn names(row: &Value) -> Vec<String> {
    match row["candidates"].as_array() {
        Some(all) => all.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect(),
        None => row["type"].as_str().map(str::to_owned).into_iter().collect(),
    }
}

/// Bytes that one kind of row has, in all sessions.
#[derive(Clone, Copy, Default, Debug)]
struct Row {
    bytes: f64,
    variance: f64,
    small: bool,
}

/// Bytes that the program keeps of one type, in all sessions.
#[derive(Clone, Copy, Default, Debug)]
struct Kept {
    small: f64,
    large: f64,
}

/// What the program keeps beside what it tells of: what holds it all, storage of its maps, channels and closures.
fn is_kept_too(name: &str) -> bool {
    let storage = ["map.group[", "map.bucket[", "runtime.", "struct { F uintptr"];
    let plain = name.trim_start_matches(['[', ']', '*']);
    name == "main.world" || storage.iter().any(|of| plain.starts_with(of))
}

fn is_of_main(name: &str) -> bool {
    name.trim_start_matches(['[', ']', '*']).starts_with("main.")
}

/// Sums over sessions of one program: where a class has many objects a session reads a sample of them, and the sample's error
/// would be told as bytes of no type. `large_too`: whether this Go names the types of large objects.
pub fn shares(sessions: &[Session], large_too: bool) -> Types {
    let mut kept: BTreeMap<&str, Kept> = BTreeMap::new();
    let mut rows: BTreeMap<Vec<String>, Row> = BTreeMap::new();
    for Session { kept: account, report } in sessions {
        for truth in list(account, "").iter().filter(|t| !text(t, "/type").ends_with("(no pointers)")) {
            let (bytes, sum) = (number(truth, "/bytes"), kept.entry(text(truth, "/type")).or_default());
            let small = bytes <= SMALL * number(truth, "/objects");
            *(if small { &mut sum.small } else { &mut sum.large }) += bytes as f64;
        }
        for row in list(report, "/heap/types") {
            let sum = rows.entry(names(row)).or_default();
            sum.bytes += number(row, "/bytes") as f64;
            sum.variance += row["bytes_stderr"].as_f64().unwrap_or(0.0).powi(2);
            sum.small = number(row, "/bytes") <= SMALL * number(row, "/objects");
        }
    }
    let mut told = Types { sessions: sessions.len() as u64, ..Types::default() };
    let mut missing: BTreeMap<&str, Kept> = BTreeMap::new();
    for (name, Kept { small, large }) in &kept {
        let alone = rows.get(&vec![(*name).to_owned()]).map_or(0.0, |row| row.bytes);
        // Those of a large list are known exactly, where they are known at all.
        let of_large = if large_too { alone.min(*large) } else { 0.0 };
        let of_small = (alone - of_large).min(*small);
        told.small.kept += small;
        told.small.alone += of_small;
        told.all.kept += small + large;
        told.all.alone += of_small + of_large;
        let large = if large_too { large - of_large } else { 0.0 };
        missing.insert(name, Kept { small: small - of_small, large });
    }
    // The bytes of a row are given to its candidates once.
    for (candidates, row) in rows.iter().filter(|(names, _)| names.len() > 1) {
        let mut left = row.bytes;
        for name in candidates {
            let Some(of) = missing.get_mut(name.as_str()) else { continue };
            let small = of.small.min(left);
            let large = of.large.min(left - small);
            of.small -= small;
            of.large -= large;
            left -= small + large;
            told.small.among += small;
            told.all.among += small + large;
        }
    }
    // What the runtime and the library keep the fixture does not know, only that it is little.
    let mut others = Row::default();
    for (names, row) in rows.iter().filter(|(names, _)| !names.is_empty()) {
        let wrong = match names.iter().find_map(|name| kept.get(name.as_str())) {
            Some(Kept { small, large }) if names.len() == 1 => {
                let most = small + large + ERRORS * row.variance.sqrt() + BESIDE * sessions.len() as f64;
                (row.bytes - most).max(0.0)
            }
            Some(_) => 0.0,
            None if names.iter().all(|name| is_kept_too(name)) => 0.0,
            None if names.iter().all(|name| is_of_main(name)) => row.bytes,
            None => {
                others.bytes += row.bytes;
                others.variance += row.variance;
                0.0
            }
        };
        told.all.wrong += wrong;
        told.small.wrong += if row.small { wrong } else { 0.0 };
    }
    let most = ERRORS * others.variance.sqrt() + OTHERS * sessions.len() as f64;
    let beyond = (others.bytes - most).max(0.0);
    told.all.wrong += beyond;
    told.small.wrong += beyond;
    let classes = sessions.iter().flat_map(|s| list(&s.report, "/heap/size_classes"));
    for class in classes {
        let bytes = number(class, "/total_bytes") as f64;
        told.live += bytes;
        told.without_pointers += if class["noscan"] == true { bytes } else { 0.0 };
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Shares of what 1000 bytes in small objects and 2000 in large ones are told as, in the order of [`xtask::accuracy::Told`].
    fn check(rows: &[(&[&str], u64)], large_too: bool, all: [f64; 4], small: [f64; 4]) {
        let kept = json!([
            { "type": "main.a", "objects": 10, "bytes": 600 },
            { "type": "main.b", "objects": 10, "bytes": 400 },
            { "type": "main.a", "objects": 1, "bytes": 2000 },
            { "type": "p (no pointers)", "objects": 10, "bytes": 160 },
        ]);
        let row = |(names, bytes): &(&[&str], u64)| match names {
            [] => json!({ "objects": 1, "bytes": bytes }),
            [name] => json!({ "type": name, "objects": bytes / 8, "bytes": bytes }),
            _ => {
                json!({ "type": names.join(" | "), "candidates": names, "objects": bytes / 8, "bytes": bytes })
            }
        };
        let rows: Vec<Value> = rows.iter().map(row).collect();
        let classes =
            json!([{ "noscan": true, "total_bytes": 160 }, { "noscan": false, "total_bytes": 3000 }]);
        let report = json!({ "heap": { "types": rows, "size_classes": classes } });
        let told = shares(&[Session { kept, report }], large_too);
        let figures = |t: xtask::accuracy::Told| [t.kept, t.alone, t.among, t.wrong];
        assert_eq!((figures(told.all), figures(told.small)), (all, small), "{rows:?} {large_too}");
        assert_eq!((told.live, told.without_pointers), (3160.0, 160.0));
    }

    #[test]
    fn each_byte_is_told_once() {
        let whole: [(&[&str], u64); 2] = [(&["main.a"], 2600), (&["main.b"], 400)];
        check(&whole, true, [3000.0, 3000.0, 0.0, 0.0], [1000.0, 1000.0, 0.0, 0.0]);
        // The large object is known first: what there is of its type may be all its own.
        check(&[(&["main.a"], 2300)], true, [3000.0, 2300.0, 0.0, 0.0], [1000.0, 300.0, 0.0, 0.0]);
        check(
            &[(&["main.a"], 600), (&[], 2400)],
            false,
            [3000.0, 600.0, 0.0, 0.0],
            [1000.0, 600.0, 0.0, 0.0],
        );
        // Candidates share the bytes of their row.
        let both: &[&str] = &["main.a", "main.b"];
        check(&[(both, 700)], false, [3000.0, 0.0, 700.0, 0.0], [1000.0, 0.0, 700.0, 0.0]);
        check(
            &[(both, 700), (&["main.a"], 500)],
            false,
            [3000.0, 500.0, 500.0, 0.0],
            [1000.0, 500.0, 500.0, 0.0],
        );
        check(&[(&["x.c", "x.d"], 900)], false, [3000.0, 0.0, 0.0, 0.0], [1000.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn what_is_not_kept_is_wrong() {
        check(&[(&["main.c"], 80)], true, [3000.0, 0.0, 0.0, 80.0], [1000.0, 0.0, 0.0, 80.0]);
        check(
            &[(&["[]*main.c"], 80), (&["x.c"], 80)],
            true,
            [3000.0, 0.0, 0.0, 80.0],
            [1000.0, 0.0, 0.0, 80.0],
        );
        // Of the library more than a little, beside what holds it all.
        let of_library = 80 + OTHERS as u64;
        check(
            &[(&["x.c", "x.d"], of_library), (&["runtime.hchan"], of_library), (&["main.world"], 99)],
            true,
            [3000.0, 0.0, 0.0, 80.0],
            [1000.0, 0.0, 0.0, 80.0],
        );
        // More of a type than is kept, and than a little beside.
        let much = 400 + BESIDE as u64 + 72;
        check(&[(&["main.b"], much)], true, [3000.0, 400.0, 0.0, 72.0], [1000.0, 400.0, 0.0, 72.0]);
    }
}
