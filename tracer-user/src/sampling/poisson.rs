//! Sampling by bytes: a Poisson process of points, on average one every `mean` bytes; an object is in the sample
//! when a point falls into its bytes.
//!
//! This is how the Go runtime samples allocations (runtime/malloc.go, `nextSample`: exponential distances), and how
//! runtime/pprof takes it back (runtime/pprof/protomem.go, `scaleHeapSample`). The probability depends on the
//! object's size alone, so a group of objects of one size needs only their number.

use super::estimate::Estimate;
use super::total::Total;

/// Poisson sampling by bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByBytes {
    /// Mean bytes between two points. 0 and 1 mean that every object is taken, as the runtime has it.
    pub mean: u64,
}

impl ByBytes {
    /// The probability that an object of `size` bytes is in the sample: 1 - exp(-size/mean).
    pub fn inclusion(self, size: u64) -> f64 {
        if self.mean <= 1 {
            return 1.0;
        }
        // exp_m1 keeps the digits where size is far below the mean.
        -(-(size as f64) / self.mean as f64).exp_m1()
    }

    /// How many objects of `size` bytes there were, when `sampled` of them were taken.
    ///
    /// The Horvitz-Thompson estimate (Horvitz and Thompson 1952, Journal of the American Statistical Association 47,
    /// 663 to 685): n/p, and n(1-p)/p^2 as the unbiased estimate of its variance for independent inclusions. Objects
    /// of no bytes are never sampled; asked for all the same, the answer is what was seen.
    pub fn objects(self, sampled: u64, size: u64) -> Total {
        let p = self.inclusion(size);
        if p <= 0.0 || self.mean <= 1 {
            return Total::exact(sampled);
        }
        // Not 1 - p, of which nothing would be left where the size is far above the mean.
        let missed = (-(size as f64) / self.mean as f64).exp();
        let n = sampled as f64;
        let next = Estimate { value: missed / p, variance: missed / (p * p) };
        Total { value: n / p, variance: n * next.variance, unseen: n * next.value, next, step: 1.0 }
    }

    /// What may be there in bytes of sizes that were never sampled: nothing was found, and one sampled object of a small
    /// size would stand for the mean.
    pub fn unseen_bytes(self) -> Total {
        let mean = if self.mean <= 1 { 0.0 } else { self.mean as f64 };
        Total { next: Estimate { value: mean, variance: mean * mean }, ..Total::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_one_counts() {
        for mean in [0, 1] {
            let all = ByBytes { mean };
            assert_eq!(all.objects(7, 48), Total::exact(7));
        }
    }

    /// runtime/pprof's own: `scale = 1 / (1 - exp(-avgSize/rate))`, worked out by hand with 30 digits.
    #[test]
    fn it_scales_as_pprof_does() {
        let d = ByBytes { mean: 524_288 };
        for (size, scale) in [(16, 32_768.500_002_543_13), (524_288, 1.581_976_706_869_326_4), (1 << 30, 1.0)]
        {
            let estimate = d.objects(1, size);
            assert!((estimate.value / scale - 1.0).abs() < 1e-12, "{size}: {} {scale}", estimate.value);
        }
    }

    /// A simulation with the runtime's way of drawing: the mean is right, and the stated error is the spread.
    #[test]
    fn estimates_are_unbiased_and_their_error_is_the_spread() {
        const ROUNDS: u32 = 4000;
        const OBJECTS: u64 = 3000;
        let design = ByBytes { mean: 10_000 };
        let size = 512;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut uniform = || {
            // splitmix64 (Steele, Lea, Flood 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let (mut z_sum, mut z_squares) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            let mut next = -(1.0 - uniform()).ln() * design.mean as f64;
            let mut sampled = 0;
            for _ in 0..OBJECTS {
                next -= size as f64;
                if next < 0.0 {
                    sampled += 1;
                    // Memoryless: the distance to the next point starts anew behind the object.
                    next = -(1.0 - uniform()).ln() * design.mean as f64;
                }
            }
            let estimate = design.objects(sampled, size);
            let z = (estimate.value - OBJECTS as f64) / estimate.standard_error();
            z_sum += z;
            z_squares += z * z;
        }
        let mean = z_sum / f64::from(ROUNDS);
        let sd = (z_squares / f64::from(ROUNDS) - mean * mean).sqrt();
        assert!(mean.abs() < 0.1 && (0.93..1.07).contains(&sd), "mean {mean}, sd {sd}");
    }
}
