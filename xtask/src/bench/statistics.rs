//! Means with their intervals, and the seeded order of toggles. Pure: no clock, no I/O.

/// The 97.5 % point of the normal distribution.
const NORMAL: f64 = 1.959_964;

/// A mean of independent figures with its 95 % interval.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) n: usize,
}

impl Estimate {
    /// Student's interval. One figure alone has no interval: its bounds are infinite.
    pub(super) fn of(figures: &[f64]) -> Self {
        let n = figures.len();
        let mean = figures.iter().sum::<f64>() / n as f64;
        if n < 2 {
            return Self { mean, low: f64::NEG_INFINITY, high: f64::INFINITY, n };
        }
        let squares: f64 = figures.iter().map(|x| (x - mean).powi(2)).sum();
        let error = (squares / (n - 1) as f64 / n as f64).sqrt();
        let half = student(n - 1) * error;
        Self { mean, low: mean - half, high: mean + half, n }
    }

    /// The geometric mean of positive figures, such as ratios.
    pub(super) fn of_ratios(ratios: &[f64]) -> Self {
        let logs: Vec<f64> = ratios.iter().map(|x| x.ln()).collect();
        let Self { mean, low, high, n } = Self::of(&logs);
        Self { mean: mean.exp(), low: low.exp(), high: high.exp(), n }
    }

    /// What the ratio of paired figures is above 1. In logarithms, because a quotient of noisy figures is above 1 on average where
    /// nothing differs (noise of 17 % makes 1.5 %) and a difference of logarithms is not. The centre is Hodges and Lehmann's median of all
    /// averages of two, the interval that of Wilcoxon's signed ranks (Hollander and Wolfe, 3.3): a pair that something else on the
    /// machine fell on moves it little.
    pub(super) fn of_pairs(pairs: &[(f64, f64)]) -> Self {
        let logs: Vec<f64> = pairs.iter().map(|(with, without)| (with / without).ln()).collect();
        let Self { mean, low, high, n } = Self::of_differences(&logs);
        Self { mean: mean.exp_m1(), low: low.exp_m1(), high: high.exp_m1(), n }
    }

    /// The same of differences as they are.
    pub(super) fn of_differences(differences: &[f64]) -> Self {
        let n = differences.len();
        let pairs = differences.iter().enumerate();
        let mut averages: Vec<f64> =
            pairs.flat_map(|(i, a)| differences[i..].iter().map(move |b| f64::midpoint(*a, *b))).collect();
        averages.sort_by(f64::total_cmp);
        let count = averages.len();
        if n < 6 {
            return Self { low: f64::NEG_INFINITY, high: f64::INFINITY, ..Self::of(differences) };
        }
        let (of, deviation) = (n as f64, (n * (n + 1) * (2 * n + 1)) as f64 / 24.0);
        let outside = (of * (of + 1.0) / 4.0 - NORMAL * deviation.sqrt()).max(1.0) as usize;
        let mean = f64::midpoint(averages[(count - 1) / 2], averages[count / 2]);
        Self { mean, low: averages[outside - 1], high: averages[count - outside], n }
    }

    pub(super) fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// The 97.5 % point of Student's t, by its expansion in 1/v about the normal's (Abramowitz and Stegun 26.7.5); exact values where
/// the expansion is not good enough.
fn student(v: usize) -> f64 {
    const FEW: [f64; 7] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365];
    if let Some(exact) = FEW.get(v - 1) {
        return *exact;
    }
    let z = NORMAL;
    let v = v as f64;
    let [z3, z5, z7] = [z.powi(3), z.powi(5), z.powi(7)];
    z + (z3 + z) / (4.0 * v)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v.powi(2))
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v.powi(3))
}

/// A random order that a seed gives again: Marsaglia's xorshift64.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }

    /// Fisher and Yates.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.below(last as u64 + 1) as usize;
            items.swap(last, chosen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_t_equals_the_tables() {
        for (v, table) in [(1, 12.706), (5, 2.571), (9, 2.262), (29, 2.045), (59, 2.001), (1000, 1.962)] {
            assert!((student(v) - table).abs() < 0.002, "{v}: {}", student(v));
        }
    }

    #[test]
    fn an_interval_is_the_textbooks() {
        // R: t.test(c(4.1, 3.9, 4.3, 4.0, 4.2))$conf.int is 3.903676 4.296324.
        let estimate = Estimate::of(&[4.1, 3.9, 4.3, 4.0, 4.2]);
        assert!((estimate.mean - 4.1).abs() < 1e-9, "{estimate:?}");
        assert!(
            (estimate.low - 3.9037).abs() < 1e-3 && (estimate.high - 4.2963).abs() < 1e-3,
            "{estimate:?}"
        );
        let ratio = Estimate::of_ratios(&[0.5, 2.0]);
        assert!((ratio.mean - 1.0).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn paired_differences_stand_an_outlier() {
        // R: wilcox.test(x, conf.int = TRUE, exact = FALSE, correct = FALSE) is centred between the middle figures.
        let mut figures: Vec<f64> = (-10..=10).map(|i| f64::from(i) / 1000.0).collect();
        let calm = Estimate::of_differences(&figures);
        assert!(calm.mean.abs() < 1e-12 && (calm.low + calm.high).abs() < 1e-12, "{calm:?}");
        assert!((0.002..0.004).contains(&calm.half_width()), "{calm:?}");
        figures[20] = 5.0;
        let disturbed = Estimate::of_differences(&figures);
        assert!(disturbed.mean.abs() < 0.001 && disturbed.half_width() < 0.004, "{disturbed:?}");
    }

    #[test]
    fn noise_alone_is_no_difference() {
        // Each figure is noisy by a fifth, in every combination: with and without are the same.
        let noisy = [0.8, 0.9, 1.0, 1.1, 1.25];
        let pairs: Vec<(f64, f64)> = noisy.iter().flat_map(|a| noisy.iter().map(move |b| (*a, *b))).collect();
        assert!(Estimate::of_pairs(&pairs).mean.abs() < 1e-12);
        let tenth: Vec<(f64, f64)> = pairs.iter().map(|(with, without)| (1.1 * with, *without)).collect();
        assert!((Estimate::of_pairs(&tenth).mean - 0.1).abs() < 1e-12);
    }

    #[test]
    fn an_order_has_every_item_and_comes_again() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..20).collect();
            Dice::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(70));
        let mut sorted = order(7);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }
}
