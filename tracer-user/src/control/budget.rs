//! How much of a processor tracing takes, and which probes to close when it is more than it may.
//!
//! Pure: it is told what was spent since the last look and answers with orders. Half of what is allowed is for hits, half for
//! readings; what one leaves over goes to the other. Both halves accrue with time and are spent like a token bucket, so that a burst may
//! take what some seconds allow. When nothing is left for hits, the group of probes that takes most is closed, then the next, until
//! the rest fits. A group comes back when enough has accrued for a look at it, later each time it is closed soon
//! again: an attach and a detach each hold a lock of the kernel that forks need. Readings are made while something is left for them.

use std::time::Duration;

/// Seconds of allowance that can be spent at once. Hits have it from the start, time to see what is usual; readings have none: the
/// first ones are made and paid for afterwards.
pub const BURST_S: f64 = 10.0;
/// Of what can be spent at once, what is left for probes that stay.
pub const RESERVE: f64 = 0.25;
/// How long a group stays closed at least, and at most.
const CLOSED_S: f64 = 10.0;
const CLOSED_MOST_S: f64 = 300.0;
/// A group that stays open for so long is no longer one that is closed again and again.
const STABLE_S: f64 = 30.0;
/// What must have accrued for a group to open: so many seconds of what it took when it was closed, or all that can accrue.
const LOOK_S: f64 = 1.0;

/// Of what is allowed, what probes that nobody knows yet may take in their first moment: the burst is not for them.
const TRIAL: f64 = 2.0;

/// Probes that are attached and let go together, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Group(pub usize);

/// What to do with a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Close(Group),
    Open(Group),
}

/// How many of the longer readings that are due may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum May {
    None,
    /// They take turns, so that the largest does not take everything.
    One,
    All,
}

/// What may be spent, in seconds of processor time.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Less than 0: more was spent.
    credit: f64,
    most: f64,
}

impl Bucket {
    /// One that holds at most what [`BURST_S`] seconds of a share of a processor are.
    pub fn full(share: f64) -> Self {
        let most = share * BURST_S;
        Self { credit: most, most }
    }

    /// The same with nothing in it.
    fn empty(share: f64) -> Self {
        Self { credit: 0.0, ..Self::full(share) }
    }

    /// What does not fit.
    pub fn fill(&mut self, seconds: f64) -> f64 {
        let over = (self.credit + seconds - self.most).max(0.0);
        self.credit += seconds - over;
        over
    }

    pub fn spend(&mut self, seconds: f64) {
        self.credit -= seconds;
    }

    /// By how much more was spent than there was; 0: something is left.
    pub fn owed(&self) -> f64 {
        (-self.credit).max(0.0)
    }
}

/// What a session took so far, in seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Taken {
    pub elapsed: f64,
    /// Of a processor, by hits.
    pub hits: f64,
    /// By readings.
    pub readings: f64,
    /// While a group was closed that will be opened again.
    pub throttled: f64,
}

/// The account of one session.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Of one processor.
    share: f64,
    /// Whether anything is withheld.
    bounds: bool,
    hits: Bucket,
    readings: Bucket,
    taken: Taken,
    groups: Vec<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    /// When it was opened or closed.
    since: f64,
    /// What it took of a processor when it was closed.
    rate: f64,
    /// For how long it stays closed.
    wait: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    Closed,
    /// For good.
    Gone,
}

impl Budget {
    /// Without groups.
    pub fn new(share: f64, bounds: bool) -> Self {
        let half = share / 2.0;
        Self {
            share,
            bounds,
            hits: Bucket::full(half),
            readings: Bucket::empty(half),
            taken: Taken::default(),
            groups: Vec::new(),
        }
    }

    /// One more, which is open.
    pub fn add(&mut self) -> Group {
        self.groups.push(State { phase: Phase::Open, since: self.taken.elapsed, rate: 0.0, wait: CLOSED_S });
        Group(self.groups.len() - 1)
    }

    /// A group that will not be opened any more.
    pub fn retire(&mut self, group: Group) {
        if let Some(state) = self.groups.get_mut(group.0) {
            state.phase = Phase::Gone;
        }
    }

    /// What was spent since the last look, `took` ago: by readings, and by the hits of each group.
    pub fn look(&mut self, took: Duration, readings: Duration, hits: &[Duration]) -> Vec<Order> {
        let took = took.as_secs_f64();
        if took <= 0.0 {
            return Vec::new();
        }
        self.taken.elapsed += took;
        let cost = |group: usize| hits.get(group).map_or(0.0, Duration::as_secs_f64);
        let all: f64 = (0..self.groups.len()).map(cost).sum();
        let half = self.share * took / 2.0;
        let over = self.hits.fill(half);
        let over = self.readings.fill(half + over);
        let _lost = self.hits.fill(over);
        let readings = readings.as_secs_f64();
        self.hits.spend(all);
        self.readings.spend(readings);
        self.taken.hits += all;
        self.taken.readings += readings;
        if self.groups.iter().any(|state| state.phase == Phase::Closed) {
            self.taken.throttled += took;
        }
        match self.hits.credit < 0.0 {
            _ if !self.bounds => Vec::new(),
            true => self.close(took, cost),
            false => self.open(),
        }
    }

    /// The costliest first, until what is left fits.
    fn close(&mut self, took: f64, cost: impl Fn(usize) -> f64) -> Vec<Order> {
        let mut orders = Vec::new();
        loop {
            // What a group took before it was closed is spent, and no reason to close another.
            let open: Vec<usize> =
                (0..self.groups.len()).filter(|n| self.groups[*n].phase == Phase::Open).collect();
            if open.iter().map(|n| cost(*n)).sum::<f64>() <= self.share / 2.0 * took {
                break;
            }
            let Some(most) = open.into_iter().max_by(|a, b| cost(*a).total_cmp(&cost(*b))) else { break };
            let now = self.taken.elapsed;
            let state = &mut self.groups[most];
            state.wait = if now - state.since < STABLE_S && state.rate > 0.0 {
                (2.0 * state.wait).min(CLOSED_MOST_S)
            } else {
                CLOSED_S
            };
            (state.phase, state.since, state.rate) = (Phase::Closed, now, cost(most) / took);
            orders.push(Order::Close(Group(most)));
        }
        orders
    }

    /// One at a time: what two take together is not known.
    fn open(&mut self) -> Vec<Order> {
        let (now, Bucket { credit, most }) = (self.taken.elapsed, self.hits);
        let is_due = |state: &State| {
            state.phase == Phase::Closed
                && now - state.since >= state.wait
                && credit >= (LOOK_S * state.rate).min(0.99 * most)
        };
        let due = self.groups.iter().enumerate().filter(|(_, state)| is_due(state));
        let Some((n, _)) = due.min_by(|(_, a), (_, b)| a.rate.total_cmp(&b.rate)) else { return Vec::new() };
        (self.groups[n].phase, self.groups[n].since) = (Phase::Open, now);
        vec![Order::Open(Group(n))]
    }

    /// How many of the longer readings may begin.
    pub fn may_read(&self) -> May {
        match self.readings.credit {
            _ if !self.bounds => May::All,
            ..0.0 => May::None,
            left if left < self.readings.most / 2.0 => May::One,
            _ => May::All,
        }
    }

    /// Whether hits may take so many seconds of a processor now, and leave what open groups may need at once.
    pub fn affords(&self, seconds: f64) -> bool {
        !self.bounds || self.hits.credit >= seconds + RESERVE * self.hits.most
    }

    /// Whether probes that took so much in their first moment are to stay.
    pub fn keeps(&self, spent: Duration, took: Duration) -> bool {
        !self.bounds || spent.as_secs_f64() <= TRIAL * self.share * took.as_secs_f64()
    }

    pub fn taken(&self) -> Taken {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    fn with_groups(share: f64, groups: usize) -> Budget {
        let mut budget = Budget::new(share, true);
        for _ in 0..groups {
            let _open = budget.add();
        }
        budget
    }

    /// Of a processor.
    fn estimated(budget: &Budget) -> f64 {
        let Taken { elapsed, hits, readings, throttled: _ } = budget.taken();
        (hits + readings) / elapsed
    }

    #[test]
    fn what_takes_much_at_once_is_not_kept() {
        let moment = Duration::from_millis(5);
        let keeps = |bounds, us| Budget::new(0.01, bounds).keeps(Duration::from_micros(us), moment);
        assert!(keeps(true, 99) && !keeps(true, 101) && keeps(false, 5_000));
    }

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
        let mut budget = with_groups(0.01, 2);
        assert_eq!(run(&mut budget, 600.0, |_, _| 0.0049), []);
        assert!((estimated(&budget) - 0.0098).abs() < 1e-9);
    }

    #[test]
    fn a_spike_is_over_within_a_second_and_only_what_takes_most_is_closed() {
        let mut budget = with_groups(0.01, 2);
        let orders = run(&mut budget, 20.0, |now, n| if n == 1 && now > 10.0 { 0.5 } else { 0.004 });
        let (at, first) = orders[0];
        assert_eq!(first, Order::Close(Group(1)));
        assert!(at <= 11.0, "{at}");
        assert!(orders.iter().all(|(_, order)| *order != Order::Close(Group(0))), "{orders:?}");
    }

    #[test]
    fn what_is_always_too_much_is_looked_at_ever_more_rarely() {
        let mut budget = with_groups(0.01, 1);
        let orders = run(&mut budget, 3600.0, |_, _| 0.6);
        let opened = orders.iter().filter(|(_, order)| matches!(order, Order::Open(_))).count();
        assert!((10..=20).contains(&opened), "{opened}");
        assert!(budget.taken().throttled > 3500.0);
        assert!(estimated(&budget) < 0.01);
    }

    #[test]
    fn what_calms_down_comes_back_and_stays() {
        let mut budget = with_groups(0.01, 1);
        let orders = run(&mut budget, 300.0, |now, _| if now < 30.0 { 0.2 } else { 0.002 });
        assert!(matches!(orders.last(), Some((_, Order::Open(_)))), "{orders:?}");
        assert!(budget.taken().throttled < 120.0);
    }

    #[test]
    fn readings_have_their_half_and_close_no_probe() {
        let mut budget = with_groups(0.01, 1);
        // A reading of half a second, as of a hundred thousand goroutines.
        assert_eq!(budget.look(TICK, Duration::from_millis(500), &[TICK.mul_f64(0.002)]), []);
        assert_eq!(budget.may_read(), May::None);
        let orders = run(&mut budget, 87.0, |_, _| 0.004);
        assert_eq!(orders, []);
        assert_eq!(budget.may_read(), May::One, "what hits left over was theirs");
    }

    #[test]
    fn hits_have_what_readings_leave_over() {
        let mut budget = with_groups(0.01, 1);
        assert_eq!(run(&mut budget, 600.0, |_, _| 0.0095), []);
        for _ in 0..6_000 {
            if !budget.look(TICK, TICK.mul_f64(0.005), &[TICK.mul_f64(0.0095)]).is_empty() {
                return;
            }
        }
        panic!("together they take more than is allowed");
    }

    #[test]
    fn what_a_closed_group_took_until_it_was_closed_closes_no_other() {
        let mut budget = with_groups(0.01, 2);
        let little = TICK.mul_f64(0.001);
        assert_eq!(budget.look(TICK, Duration::ZERO, &[TICK, little]), [Order::Close(Group(0))]);
        assert_eq!(budget.look(TICK, Duration::ZERO, &[TICK / 2, little]), []);
    }

    #[test]
    fn what_is_not_bounded_is_counted_and_what_is_gone_stays_away() {
        let mut free = Budget::new(0.01, false);
        let _open = free.add();
        assert_eq!(run(&mut free, 60.0, |_, _| 0.5), []);
        assert!((estimated(&free) - 0.5).abs() < 1e-9);
        let mut budget = with_groups(0.01, 1);
        let orders = run(&mut budget, 1.0, |_, _| 0.5);
        assert_eq!(orders.len(), 1);
        budget.retire(Group(0));
        assert_eq!(run(&mut budget, 600.0, |_, _| 0.0), []);
    }

    proptest! {
        /// Whatever groups take: what is spent is what is allowed, a burst and the look that noticed.
        #[test]
        fn what_is_spent_is_bounded(
            share in 0.001_f64..0.05,
            phases in proptest::collection::vec(proptest::collection::vec(0.0_f64..0.8, 3), 1..8),
        ) {
            let mut budget = with_groups(share, 3);
            let seconds = 40.0 * phases.len() as f64;
            let phase = |now: f64| ((now - 0.05) / 40.0) as usize;
            let orders = run(&mut budget, seconds, |now, n| phases[phase(now).min(phases.len() - 1)][n]);
            let opened = orders.iter().filter(|(_, order)| matches!(order, Order::Open(_))).count();
            let most = share * (seconds + BURST_S) + 0.1 * 2.4 * (1 + opened) as f64;
            let spent = budget.taken().hits;
            prop_assert!(spent <= most, "{spent} of {most}");
        }
    }
}
