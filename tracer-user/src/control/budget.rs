//! How much of a processor tracing takes, and which probes to close when it is more than it may.
//!
//! Pure: it is told what was spent since the last look and answers with orders. What is allowed accrues with time and is spent by hits and
//! readings, like a token bucket: a burst may take what [`BURST_S`] seconds allow. When all of it is spent, the group of probes that takes most is
//! closed, then the next, until what is left fits. A group comes back when enough has accrued for a look at it, later each
//! time it is closed soon again: an attach and a detach each hold a lock of the kernel that forks need.

use std::time::Duration;

/// Seconds of allowance that can be spent at once.
const BURST_S: f64 = 10.0;
/// How long a group stays closed at least, and at most.
const CLOSED_S: f64 = 10.0;
const CLOSED_MOST_S: f64 = 300.0;
/// A group that stays open for so long is no longer one that is closed again and again.
const STABLE_S: f64 = 30.0;
/// What must have accrued for a group to open: so many seconds of what it took when it was closed, or all that can accrue.
const LOOK_S: f64 = 1.0;

/// Probes that are attached and let go together, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Group(pub usize);

/// What to do with a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Close(Group),
    Open(Group),
}

/// The account of one session.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Of one processor.
    share: f64,
    /// Seconds of processor time that may be spent at once; less than 0: more was spent.
    credit: f64,
    elapsed: f64,
    spent: f64,
    groups: Vec<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    open: bool,
    /// When it was opened or closed.
    since: f64,
    /// What it took of a processor when it was closed.
    rate: f64,
    /// For how long it stays closed.
    wait: f64,
    /// In all.
    closed_s: f64,
}

impl Budget {
    /// All groups are open.
    pub fn new(share: f64, groups: usize) -> Self {
        let mut budget =
            Self { share, credit: share * BURST_S, elapsed: 0.0, spent: 0.0, groups: Vec::new() };
        for _ in 0..groups {
            let _open = budget.add();
        }
        budget
    }

    /// One more, which is open.
    pub fn add(&mut self) -> Group {
        let state = State { open: true, since: self.elapsed, rate: 0.0, wait: CLOSED_S, closed_s: 0.0 };
        self.groups.push(state);
        Group(self.groups.len() - 1)
    }

    /// What was spent since the last look, `took` ago: by us, and by the hits of each group.
    pub fn look(&mut self, took: Duration, own: Duration, hits: &[Duration]) -> Vec<Order> {
        let took = took.as_secs_f64();
        if took <= 0.0 {
            return Vec::new();
        }
        self.elapsed += took;
        let cost = |group: usize| hits.get(group).map_or(0.0, Duration::as_secs_f64);
        let all = own.as_secs_f64() + (0..self.groups.len()).map(cost).sum::<f64>();
        self.spent += all;
        self.credit = (self.credit + self.share * took).min(self.share * BURST_S) - all;
        for state in self.groups.iter_mut().filter(|state| !state.open) {
            state.closed_s += took;
        }
        if self.credit < 0.0 { self.close(took, all, cost) } else { self.open() }
    }

    /// The costliest first, until what is left fits.
    fn close(&mut self, took: f64, mut all: f64, cost: impl Fn(usize) -> f64) -> Vec<Order> {
        let mut orders = Vec::new();
        while all > self.share * took {
            let open = (0..self.groups.len()).filter(|n| self.groups[*n].open && cost(*n) > 0.0);
            let Some(most) = open.max_by(|a, b| cost(*a).total_cmp(&cost(*b))) else { break };
            all -= cost(most);
            let now = self.elapsed;
            let state = &mut self.groups[most];
            state.wait = if now - state.since < STABLE_S && state.rate > 0.0 {
                (2.0 * state.wait).min(CLOSED_MOST_S)
            } else {
                CLOSED_S
            };
            (state.open, state.since, state.rate) = (false, now, cost(most) / took);
            orders.push(Order::Close(Group(most)));
        }
        orders
    }

    /// One at a time: what two take together is not known.
    fn open(&mut self) -> Vec<Order> {
        let (now, credit, full) = (self.elapsed, self.credit, self.share * BURST_S);
        let is_due = |state: &State| {
            !state.open && now - state.since >= state.wait && credit >= (LOOK_S * state.rate).min(0.99 * full)
        };
        let due = self.groups.iter().enumerate().filter(|(_, state)| is_due(state));
        let Some((n, _)) = due.min_by(|(_, a), (_, b)| a.rate.total_cmp(&b.rate)) else { return Vec::new() };
        (self.groups[n].open, self.groups[n].since) = (true, now);
        vec![Order::Open(Group(n))]
    }

    /// What tracing took of a processor so far; none before the first look.
    pub fn estimated(&self) -> Option<f64> {
        (self.elapsed > 0.0).then(|| self.spent / self.elapsed)
    }

    /// For how many seconds a group was closed.
    pub fn closed_s(&self, group: Group) -> f64 {
        self.groups.get(group.0).map_or(0.0, |state| state.closed_s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// Runs groups that take so much of a processor while they are open; says when which order came.
    fn run(budget: &mut Budget, seconds: f64, rates: impl Fn(f64, usize) -> f64) -> Vec<(f64, Order)> {
        let mut open = vec![true; budget.groups.len()];
        let mut orders = Vec::new();
        for tick in 1..=(seconds / TICK.as_secs_f64()).round() as usize {
            let now = tick as f64 * TICK.as_secs_f64();
            let hits: Vec<Duration> =
                (0..open.len()).map(|n| TICK.mul_f64(if open[n] { rates(now, n) } else { 0.0 })).collect();
            for order in budget.look(TICK, Duration::ZERO, &hits) {
                match order {
                    Order::Close(Group(n)) => open[n] = false,
                    Order::Open(Group(n)) => open[n] = true,
                }
                orders.push((now, order));
            }
        }
        orders
    }

    #[test]
    fn what_fits_is_left_alone() {
        let mut budget = Budget::new(0.01, 2);
        assert_eq!(run(&mut budget, 600.0, |_, _| 0.0049), []);
        assert!((budget.estimated().unwrap() - 0.0098).abs() < 1e-9);
    }

    #[test]
    fn a_spike_is_over_within_a_second_and_only_what_takes_most_is_closed() {
        let mut budget = Budget::new(0.01, 2);
        let orders = run(&mut budget, 20.0, |now, n| if n == 1 && now > 10.0 { 0.5 } else { 0.004 });
        let (at, first) = orders[0];
        assert_eq!(first, Order::Close(Group(1)));
        assert!(at <= 11.0, "{at}");
        assert!(orders.iter().all(|(_, order)| *order != Order::Close(Group(0))), "{orders:?}");
    }

    #[test]
    fn what_is_always_too_much_is_looked_at_ever_more_rarely() {
        let mut budget = Budget::new(0.01, 1);
        let orders = run(&mut budget, 3600.0, |_, _| 0.6);
        let opened = orders.iter().filter(|(_, order)| matches!(order, Order::Open(_))).count();
        assert!((10..=20).contains(&opened), "{opened}");
        assert!(budget.closed_s(Group(0)) > 3500.0);
        assert!(budget.estimated().unwrap() < 0.01);
    }

    #[test]
    fn what_calms_down_comes_back_and_stays() {
        let mut budget = Budget::new(0.01, 1);
        let orders = run(&mut budget, 300.0, |now, _| if now < 30.0 { 0.2 } else { 0.002 });
        assert!(matches!(orders.last(), Some((_, Order::Open(_)))), "{orders:?}");
        assert!(budget.closed_s(Group(0)) < 120.0);
    }

    #[test]
    fn our_own_readings_count_and_close_nothing_that_costs_nothing() {
        let mut budget = Budget::new(0.01, 1);
        for _ in 0..100 {
            assert_eq!(budget.look(TICK, TICK / 20, &[Duration::ZERO]), []);
        }
        assert!((budget.estimated().unwrap() - 0.05).abs() < 1e-9);
        assert_eq!(budget.look(TICK, Duration::ZERO, &[TICK / 50]), [Order::Close(Group(0))]);
    }

    proptest! {
        /// Whatever groups take: what is spent is what is allowed, a burst and the look that noticed.
        #[test]
        fn what_is_spent_is_bounded(
            share in 0.001_f64..0.05,
            phases in proptest::collection::vec(proptest::collection::vec(0.0_f64..0.8, 3), 1..8),
        ) {
            let mut budget = Budget::new(share, 3);
            let seconds = 40.0 * phases.len() as f64;
            let phase = |now: f64| ((now - 0.05) / 40.0) as usize;
            let orders = run(&mut budget, seconds, |now, n| phases[phase(now).min(phases.len() - 1)][n]);
            let opened = orders.iter().filter(|(_, order)| matches!(order, Order::Open(_))).count();
            let most = share * (seconds + BURST_S) + 0.1 * 2.4 * (1 + opened) as f64;
            prop_assert!(budget.spent <= most, "{} of {most}", budget.spent);
        }
    }
}
