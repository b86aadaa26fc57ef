//! Which allocations are sampled: a Poisson process of points in the bytes allocated, decided one allocation at a time.
//!
//! Apart so that the kernel side and the tests that replay allocations run the same code. Integers only: BPF has no
//! floating point. Pure: callers keep the distance to the next point and bring randomness.
//!
//! Each CPU has a distance of its own. The process is memoryless: wherever an allocation runs, the distance to the next
//! point behind it is exponential with the same mean, so one process per CPU is the same as one process per target.

/// Larger means would overflow: 16 GiB.
pub const MAX_MEAN: u64 = 1 << 34;

/// Whether a point lies within `size` bytes, when `left` bytes were left to it. What was left is 0 or less while another
/// task that was preempted here has found its point and not drawn the next distance yet; then there is none.
#[expect(
    clippy::inline_always,
    reason = "the kernel side inlines everything: one program, one pass of the verifier"
)]
#[inline(always)]
pub const fn hits(left: i64, size: u64) -> bool {
    left > 0 && size >= left as u64
}

/// The bytes to the next point, from 32 random bits: `-mean * ln(u)` rounded up, with u = (random + 1) / 2^32. Up,
/// because then whole bytes are hit exactly as often as the exponential distance says. At least 1; exactly 1 for a mean
/// of 0 or 1, with which everything is sampled.
#[expect(
    clippy::inline_always,
    reason = "the kernel side inlines everything: one program, one pass of the verifier"
)]
#[inline(always)]
pub const fn distance(mean: u64, random: u32) -> i64 {
    let mean = if mean > MAX_MEAN { MAX_MEAN } else { mean };
    // 29 bits of -log2(u), 24 of them behind the point; ln 2 with 24 bits: 53 bits in all.
    let nats = (log2_below_32(random) * LN_2) >> FRACTION;
    // 29 bits times 34.
    let bytes = (mean * nats) >> FRACTION;
    if mean <= 1 { 1 } else { bytes as i64 + 1 }
}

const FRACTION: u32 = 24;
/// ln 2 * 2^24, rounded.
const LN_2: u64 = 11_629_080;

/// 32 - log2(random + 1), with [`FRACTION`] bits behind the point.
///
/// The whole part is the place of the highest bit; each further bit comes from squaring what is left, because a square
/// has twice the logarithm. No branches, so that the verifier walks it once.
#[expect(
    clippy::inline_always,
    reason = "the kernel side inlines everything: one program, one pass of the verifier"
)]
#[inline(always)]
const fn log2_below_32(random: u32) -> u64 {
    let n = random as u64 + 1;
    let whole = 63 - n.leading_zeros() as u64;
    // Between 1 and 2, with 31 bits behind the point.
    let mut rest = (n << 31) >> whole;
    let mut log = whole;
    let mut i = 0;
    while i < FRACTION {
        rest = (rest * rest) >> 31;
        let bit = rest >> 32;
        rest >>= bit;
        log = log << 1 | bit;
        i += 1;
    }
    (32 << FRACTION) - log
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn distances_are_those_of_the_logarithm() {
        let mut random = 1_u32;
        for _ in 0..100_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let u = (f64::from(random) + 1.0) / 4_294_967_296.0;
            for mean in [512.0_f64, 524_288.0, 17_179_869_184.0] {
                let wanted = -mean * u.ln();
                let found = distance(mean as u64, random) as f64;
                assert!((found - wanted).abs() <= 1.0 + mean * 2e-7, "{random} {mean}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(distance(524_288, u32::MAX), 1);
        // 32 ln 2 means.
        assert_eq!(distance(1 << 20, 0), 23_258_161);
        assert_eq!((distance(0, 0), distance(1, 0), distance(1, 77)), (1, 1, 1));
        assert!(distance(u64::MAX, 0) > 0);
    }

    #[test]
    fn a_point_is_hit_once() {
        assert!(!hits(100, 99) && hits(100, 100) && hits(100, u64::MAX));
        assert!(!hits(0, 5) && !hits(-7, 5));
        assert!(hits(1, 1));
    }
}
