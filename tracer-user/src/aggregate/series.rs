//! A series of points that never grows past its cap: when full, every second point goes and from then on only
//! every second arrival is kept. Apart because every store of the ledger that follows time uses it. It never
//! looks at what a point means.

/// A capped series in arrival order. The newest point is always present, whatever the stride.
#[derive(Clone, PartialEq, Debug)]
pub struct Series<T> {
    points: Vec<T>,
    newest: Option<T>,
    cap: usize,
    stride: u32,
    skip: u32,
}

impl<T> Series<T> {
    /// An empty series of at most `cap` kept points (made even and at least 2).
    pub fn new(cap: usize) -> Self {
        Self { points: Vec::new(), newest: None, cap: cap.max(2) & !1, stride: 1, skip: 0 }
    }

    pub fn push(&mut self, point: T) {
        if self.skip > 0 {
            self.skip -= 1;
            self.newest = Some(point);
            return;
        }
        self.points.push(point);
        self.newest = None;
        self.skip = self.stride - 1;
        if self.points.len() >= self.cap {
            // The cap is even, so the point pushed last sits at an odd index: it leaves the kept ones and is
            // remembered as the newest.
            self.newest = self.points.pop();
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride = self.stride.saturating_mul(2);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.points.iter().chain(&self.newest)
    }

    pub fn last(&self) -> Option<&T> {
        self.newest.as_ref().or(self.points.last())
    }

    pub fn is_empty(&self) -> bool {
        self.last().is_none()
    }

    /// How many arrivals one kept point stands for.
    pub fn stride(&self) -> u32 {
        self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_series_thins_evenly_and_keeps_both_ends() {
        let mut s = Series::new(8);
        for i in 0..1000_u32 {
            s.push(i);
            assert_eq!(s.last(), Some(&i));
            assert!(s.iter().count() <= 8);
        }
        let kept: Vec<u32> = s.iter().copied().collect();
        assert_eq!(kept[0], 0);
        let steps: Vec<u32> = kept.windows(2).map(|w| w[1] - w[0]).collect();
        let (tail, body) = steps.split_last().expect("there are points");
        assert!(body.iter().all(|s| *s == body[0]), "{kept:?}");
        assert!(*tail <= body[0], "{kept:?}");
    }

    #[test]
    fn a_short_series_keeps_everything() {
        let mut s = Series::new(8);
        for i in 0..7 {
            s.push(i);
        }
        assert_eq!(s.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(s.stride(), 1);
    }
}
