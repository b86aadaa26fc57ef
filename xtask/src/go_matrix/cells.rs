//! The cells of the matrix: which Go, built how. Apart because the task and the live test run the same.

use crate::fixtures::{Mode, Variant};
use crate::toolchains::{EVERY, Pin};

/// One way to build programs with one Go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    pub pin: Pin,
    pub variant: Variant,
}

impl Cell {
    /// Its name in messages and on the page.
    pub fn name(&self) -> String {
        format!("go{} {}", self.pin.version, self.variant.name())
    }
}

/// Builds with other runtime structures than their release's own, by minor: which functions they contain tells, not their version.
pub const EXPERIMENTS: [(u32, &str); 7] = [
    (22, "noallocheaders"),
    (24, "noswissmap"),
    (25, "noswissmap"),
    (25, "greenteagc"),
    (26, "nogreenteagc"),
    (26, "sizespecializedmalloc"),
    (27, "nosizespecializedmalloc"),
];

/// Every cell.
pub fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for pin in EVERY {
        for mode in Mode::MATRIX {
            for profiled in [false, true] {
                cells.push(Cell { pin, variant: Variant { profiled, ..mode.into() } });
            }
        }
    }
    cells.extend(experiments());
    cells
}

fn experiments() -> impl Iterator<Item = Cell> {
    EXPERIMENTS.into_iter().filter_map(|(minor, experiment)| {
        let pin = EVERY.into_iter().find(|pin| pin.minor() == minor)?;
        // Stripped: nothing but what pclntab contains can tell.
        let variant = Variant { experiment, ..Mode::Bare.into() };
        Some(Cell { pin, variant })
    })
}

/// The part that every test run checks: each pair of version, mode and profiler (in or out) comes in some cell; and every experiment.
pub fn part() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (row, pin) in EVERY.into_iter().enumerate() {
        for (column, mode) in Mode::MATRIX.into_iter().enumerate() {
            let profiled = (row + column) % 2 == 1;
            cells.push(Cell { pin, variant: Variant { profiled, ..mode.into() } });
        }
    }
    cells.extend(experiments());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_has_every_pair_of_version_mode_and_profiler() {
        let part = part();
        let has = |wanted: &dyn Fn(&Cell) -> bool| part.iter().any(wanted);
        for pin in EVERY {
            for mode in Mode::MATRIX {
                assert!(has(&|cell| cell.pin == pin && cell.variant.mode == mode), "{pin:?} {mode:?}");
                for profiled in [false, true] {
                    assert!(has(&|cell| cell.variant.mode == mode && cell.variant.profiled == profiled));
                    assert!(has(&|cell| cell.pin == pin && cell.variant.profiled == profiled));
                }
            }
        }
        assert!(part.iter().all(|cell| all().contains(cell)));
        assert_eq!(part.len(), 9 * 7 + EXPERIMENTS.len());
        assert_eq!(all().len(), 9 * 7 * 2 + EXPERIMENTS.len());
    }
}
