//! The matrix of Go versions: a part of it here, all of it by `cargo xtask go-matrix`, which sets the cells by environment.
//!
//! What is checked of a cell is in `tracer_tests::cell`; this runs cells and writes down what came of them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tracer_tests::{cell, live};
use xtask::go_matrix::cells::{self, Cell};
use xtask::go_matrix::{CELLS, Outcome, RESULTS};

fn chosen() -> Vec<Cell> {
    match std::env::var(CELLS) {
        Err(_) => cells::part(),
        Ok(all) if all == "all" => cells::all(),
        Ok(word) => cells::all().into_iter().filter(|cell| cell.name().contains(&word)).collect(),
    }
}

fn write_down(outcomes: &[Outcome]) {
    if let Some(file) = std::env::var_os(RESULTS) {
        let mut file = OpenOptions::new().append(true).create(true).open(file).expect("results are writable");
        let lines: String = outcomes.iter().map(Outcome::line).collect();
        file.write_all(lines.as_bytes()).expect("results are writable");
    }
}

#[test]
fn every_cell_keeps_every_promise() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let failed = Mutex::new(Vec::new());
    let cells = chosen();
    let next = AtomicUsize::new(0);
    // Each cell has processes of its own and mostly waits for them.
    let workers = thread::available_parallelism().map_or(1, usize::from) * 2;
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcomes = cell::check(cell);
                    write_down(&outcomes);
                    let lost = outcomes.into_iter().filter(|outcome| outcome.failure.is_some());
                    failed.lock().expect("no worker panics").extend(lost);
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no worker panics");
    let lines: String = failed.iter().map(Outcome::line).collect();
    assert!(failed.is_empty(), "of {} cells:\n{lines}", cells.len());
}
