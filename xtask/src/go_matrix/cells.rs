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
pub const EXPERIMENTS: [(u32, &str); 6] = [
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

/// The part that every test run checks: each version twice, with the profiler and without, in modes that change from version to
/// version, so that each mode comes with the profiler and without; and every experiment.
pub fn part() -> Vec<Cell> {
    let modes = Mode::MATRIX;
    let mut cells = Vec::new();
    for (row, pin) in EVERY.into_iter().enumerate() {
        for (profiled, shift) in [(false, 0), (true, 3)] {
            let mode = modes[(row + shift) % modes.len()];
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
    fn the_part_has_every_version_and_mode_with_the_profiler_and_without() {
        let part = part();
        for profiled in [false, true] {
            let of = |cell: &&Cell| cell.variant.profiled == profiled && cell.variant.experiment.is_empty();
            for mode in Mode::MATRIX {
                assert!(part.iter().filter(of).any(|cell| cell.variant.mode == mode), "{mode:?} {profiled}");
            }
            for pin in EVERY {
                assert!(part.iter().filter(of).any(|cell| cell.pin == pin), "{pin:?} {profiled}");
            }
        }
        assert!(part.iter().all(|cell| all().contains(cell)));
        assert_eq!(all().len(), 9 * 6 * 2 + EXPERIMENTS.len());
    }
}
