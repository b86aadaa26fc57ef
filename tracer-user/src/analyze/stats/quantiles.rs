//! Quantiles of sizes, by G. Tene's high dynamic range histogram (crate `hdrhistogram`): bounded memory for any number
//! of values, with a stated error.

use hdrhistogram::Histogram;

/// Values are kept to three digits: a quantile is within 0.1 % of the true one.
const DIGITS: u8 = 3;
/// Values counted. No program has so many; up to here sums neither overflow nor lose a unit as floating point.
const MOST: u64 = 1 << 53;

/// The values below which these shares of all lie, each within 0.1 %; the largest is exact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quantiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

/// Of values with the number of times each came, the first 2^53 of them; `None` where none came.
pub fn quantiles(values: impl IntoIterator<Item = (u64, u64)>) -> Option<Quantiles> {
    let mut histogram = Histogram::<u64>::new(DIGITS).ok()?;
    let (mut max, mut room) = (0, MOST);
    for (value, times) in values {
        let times = times.min(room);
        if times == 0 {
            continue;
        }
        room -= times;
        max = max.max(value);
        // It grows as values ask for it; one beyond what fits in memory counts as the largest that does.
        if histogram.record_n(value, times).is_err() {
            histogram.saturating_record_n(value, times);
        }
    }
    if histogram.is_empty() {
        return None;
    }
    // The histogram says the upper end of the bucket a value is in.
    let at = |quantile| histogram.value_at_quantile(quantile).min(max);
    Some(Quantiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let of = |values: &[(u64, u64)]| quantiles(values.iter().copied()).expect("there are values");
        // 1 to 100, each once: numpy's percentile(..., method="inverted_cdf") says 50, 90, 99.
        let all: Vec<(u64, u64)> = (1..=100).map(|n| (n, 1)).collect();
        assert_eq!(of(&all), Quantiles { p50: 50, p90: 90, p99: 99, max: 100 });
        assert_eq!(
            of(&[(320, 5_000_000), (64 << 10, 1)]),
            Quantiles { p50: 320, p90: 320, p99: 320, max: 64 << 10 }
        );
        let wide = of(&[(100_000, 40), (3_000_000, 60)]);
        assert!(wide.p50.abs_diff(3_000_000) <= 3_000 && wide.max == 3_000_000, "{wide:?}");
        assert_eq!(quantiles([(7, 0)]), None);
        assert_eq!(quantiles([]), None);
        assert_eq!(of(&[(u64::MAX, 2), (0, 1)]).max, u64::MAX);
    }

    #[test]
    fn absurd_numbers_of_values_do_not_overflow() {
        let all = [(7, u64::MAX), (9, u64::MAX), (1 << 40, 5)];
        assert_eq!(quantiles(all), Some(Quantiles { p50: 7, p90: 7, p99: 7, max: 7 }));
        let most = [(7, MOST - 1), (9, u64::MAX)];
        assert_eq!(quantiles(most), Some(Quantiles { p50: 7, p90: 7, p99: 7, max: 9 }));
    }
}
