//! Who sits: the seats of the server shared out among priority levels (KEP-1040). Pure: who waits is any value `W`, given back when
//! it is its turn.
//!
//! A level holds its nominal seats. Of those that it does not use it lends as many as `lendablePercent` says, and a level that needs more
//! borrows them, up to `borrowingLimitPercent`; what is lent comes back when the borrower's requests end. Nobody is ever kept out of the part that
//! he does not lend. Within a level requests wait in queues: each flow is dealt a hand of them and takes the shortest, so that one that asks without end
//! is in the way of few others. A free seat goes to the queue that holds the fewest.
//!
//! The room to wait in is shared out, too: half of it like the seats, so that no level fills the room of the others, and the other half is for whoever
//! comes first.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Requests of a level that may wait whatever its share is, if its queues are as long: one queue of the default levels.
const OWN_ROOM_LEAST: usize = 50;

/// What becomes of a request that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It has a seat.
    Seated(Place),
    /// It will be given back by [`Seats::leave`].
    Waits,
    /// There is no room to wait in.
    Refused,
}

/// A seat's level and queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    level: usize,
    queue: usize,
}

/// What a level may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// `nominalConcurrencyShares`
    pub(super) shares: u64,
    /// `lendablePercent`
    pub(super) lendable_percent: u64,
    /// `borrowingLimitPercent`; none for no limit.
    pub(super) borrowing_percent: Option<u64>,
    /// How requests wait; they do not if there is nothing.
    pub(super) queuing: Option<Queuing>,
}

/// `queuing` of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queuing {
    pub(super) queues: usize,
    pub(super) hand: usize,
    pub(super) length: usize,
}

#[derive(Debug)]
struct Queue<W> {
    seated: usize,
    /// With the order in which they came.
    waiting: VecDeque<(u64, W)>,
}

#[derive(Debug)]
struct Level<W> {
    limits: Limits,
    nominal: usize,
    lendable: usize,
    most: usize,
    used: usize,
    waiting: usize,
    /// Requests that may wait here however many wait elsewhere.
    room: usize,
    queues: Vec<Queue<W>>,
    /// It is in the configuration no more, and ends with its requests.
    gone: bool,
}

/// What is told of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LevelState {
    pub(super) name: Arc<str>,
    /// Its seats.
    pub(super) nominal: usize,
    /// Those that it does not lend.
    pub(super) least: usize,
    /// Those that it may have with what it borrows.
    pub(super) most: usize,
    pub(super) used: usize,
    pub(super) waiting: usize,
}

/// All seats.
#[derive(Debug)]
pub(super) struct Seats<W> {
    total: usize,
    /// Requests of all levels that may wait; a few more where many levels have the least of room.
    waiting_max: usize,
    waiting: usize,
    arrived: u64,
    /// One that went stays until its requests have ended.
    levels: Vec<Level<W>>,
    names: HashMap<Arc<str>, usize>,
    /// Places of levels that have ended, for new ones.
    free: Vec<usize>,
}

impl<W> Seats<W> {
    /// So many seats, and room for so many who wait.
    pub(super) fn new(total: usize, waiting_max: usize) -> Self {
        Self {
            total,
            waiting_max,
            waiting: 0,
            arrived: 0,
            levels: Vec::new(),
            names: HashMap::new(),
            free: Vec::new(),
        }
    }

    /// Shares the seats out anew. Returns who may sit down now.
    pub(super) fn share_out(&mut self, levels: &[(Arc<str>, Limits)]) -> Vec<(Place, W)> {
        let shares: u64 = levels.iter().map(|(_, limits)| limits.shares).sum();
        for (name, at) in &self.names {
            // A level that is gone has no seats of its own any more; what waits there borrows.
            if let (true, Some(level)) =
                (!levels.iter().any(|(known, _)| known == name), self.levels.get_mut(*at))
            {
                (level.nominal, level.lendable, level.room, level.gone) = (0, 0, 0, true);
            }
        }
        for at in 0..self.levels.len() {
            self.end(at);
        }
        for (name, limits) in levels {
            // As KEP-1040: rounded up, so that nobody has nothing.
            let nominal = (self.total as u64 * limits.shares).div_ceil(shares.max(1)) as usize;
            let percent = |percent: u64| ((nominal as u64 * percent) as f64 / 100.0).round() as usize;
            let most = limits.borrowing_percent.map_or(usize::MAX, |limit| nominal + percent(limit));
            let lendable = percent(limits.lendable_percent.min(100));
            let room = (self.waiting_max as u64 / 2 * limits.shares / shares.max(1)) as usize;
            let room = limits.queuing.map_or(0, |queuing| room.max(queuing.length.min(OWN_ROOM_LEAST)));
            let at = self.place_of(name, limits);
            if let Some(level) = self.levels.get_mut(at) {
                (level.nominal, level.lendable, level.most) = (nominal, lendable, most);
                (level.room, level.gone) = (room, false);
                level.limits = limits.clone();
                level.make_queues();
            }
        }
        self.seat_waiting()
    }

    fn place_of(&mut self, name: &Arc<str>, limits: &Limits) -> usize {
        if let Some(at) = self.names.get(name) {
            return *at;
        }
        let at = self.free.pop().unwrap_or(self.levels.len());
        match self.levels.get_mut(at) {
            Some(level) => *level = Level::new(limits.clone()),
            None => self.levels.push(Level::new(limits.clone())),
        }
        self.names.insert(Arc::clone(name), at);
        at
    }

    /// Forgets a level that went, once nobody sits or waits there.
    fn end(&mut self, at: usize) {
        let Some(level) = self.levels.get_mut(at).filter(|level| level.gone) else { return };
        if level.used == 0 && level.waiting == 0 {
            (level.gone, level.queues) = (false, Vec::new());
            self.names.retain(|_, place| *place != at);
            self.free.push(at);
        }
    }

    /// A request of a flow comes. `who` is made only if it has to wait.
    pub(super) fn arrive(&mut self, level: &str, flow: u64, who: impl FnOnce() -> W) -> Arrival {
        let Some(at) = self.names.get(level).copied() else { return Arrival::Refused };
        let can_sit = self.can_sit(at);
        let room = self.has_room(at);
        let Some(level) = self.levels.get_mut(at) else { return Arrival::Refused };
        let queue = level.deal(flow);
        let place = Place { level: at, queue };
        if can_sit && level.waiting == 0 {
            level.seat(queue);
            return Arrival::Seated(place);
        }
        let fits =
            level.limits.queuing.is_some_and(|queuing| level.queues[queue].waiting.len() < queuing.length);
        if !fits || !room {
            return Arrival::Refused;
        }
        self.arrived += 1;
        self.waiting += 1;
        level.waiting += 1;
        level.queues[queue].waiting.push_back((self.arrived, who()));
        Arrival::Waits
    }

    /// Takes those out who wait no more, and says how many there were: a place that nobody wants is nobody's.
    pub(super) fn forget(&mut self, gone: impl Fn(&W) -> bool) -> usize {
        let mut count = 0;
        for level in &mut self.levels {
            for queue in &mut level.queues {
                let before = queue.waiting.len();
                queue.waiting.retain(|(_, who)| !gone(who));
                let left = before - queue.waiting.len();
                level.waiting -= left;
                count += left;
            }
        }
        self.waiting -= count;
        for at in 0..self.levels.len() {
            self.end(at);
        }
        count
    }

    /// A request gives its seat back. Returns who sits down instead.
    pub(super) fn leave(&mut self, place: Place) -> Vec<(Place, W)> {
        if let Some(level) = self.levels.get_mut(place.level) {
            level.used = level.used.saturating_sub(1);
            if let Some(queue) = level.queues.get_mut(place.queue) {
                queue.seated = queue.seated.saturating_sub(1);
            }
        }
        let next = self.seat_waiting();
        self.end(place.level);
        next
    }

    /// Whether there is a level of a name.
    pub(super) fn knows(&self, level: &str) -> bool {
        self.names.contains_key(level)
    }

    /// The levels as they are.
    pub(super) fn level_states(&self) -> Vec<LevelState> {
        let told = self.names.iter().filter_map(|(name, at)| {
            let level = self.levels.get(*at)?;
            Some(LevelState {
                name: Arc::clone(name),
                nominal: level.nominal,
                least: level.nominal.saturating_sub(level.lendable),
                most: level.most.min(level.nominal + self.total),
                used: level.used,
                waiting: level.waiting,
            })
        });
        told.collect()
    }

    /// Whether a level may take one more seat.
    fn can_sit(&self, at: usize) -> bool {
        let Some(level) = self.levels.get(at) else { return false };
        let used: usize = self.levels.iter().map(|level| level.used).sum();
        let nominal: usize = self.levels.iter().map(|level| level.nominal).sum();
        if used >= nominal.max(self.total) {
            return false;
        }
        if level.used < level.nominal {
            return true;
        }
        if level.used >= level.most {
            return false;
        }
        let borrowed: usize = self.levels.iter().map(|level| level.used.saturating_sub(level.nominal)).sum();
        let others = self.levels.iter().enumerate().filter(|(other, _)| *other != at);
        let lent: usize =
            others.map(|(_, level)| level.lendable.min(level.nominal.saturating_sub(level.used))).sum();
        borrowed < lent
    }

    /// Whether one more may wait in a level: in its own room, or in what is nobody's.
    fn has_room(&self, at: usize) -> bool {
        if self.levels.get(at).is_some_and(|level| level.waiting < level.room) {
            return true;
        }
        let kept: usize = self.levels.iter().map(|level| level.room).sum();
        let beyond: usize = self.levels.iter().map(|level| level.waiting.saturating_sub(level.room)).sum();
        beyond < self.waiting_max.saturating_sub(kept)
    }

    fn seat_waiting(&mut self) -> Vec<(Place, W)> {
        let mut seated = Vec::new();
        while self.waiting > 0 {
            // Those below what is theirs come before those who borrow, and of each the ones that have least of it.
            let ready = (0..self.levels.len()).filter(|at| self.levels[*at].waiting > 0 && self.can_sit(*at));
            let next = ready.min_by_key(|at| {
                let level = &self.levels[*at];
                (level.used >= level.nominal, level.used * 1000 / level.nominal.max(1))
            });
            let Some(at) = next else { break };
            let Some((queue, who)) = self.levels[at].next() else { break };
            self.waiting -= 1;
            seated.push((Place { level: at, queue }, who));
        }
        seated
    }
}

impl<W> Level<W> {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            nominal: 0,
            lendable: 0,
            most: usize::MAX,
            used: 0,
            waiting: 0,
            room: 0,
            queues: Vec::new(),
            gone: false,
        }
    }

    /// As many queues as there must be; those that are too many are only dealt no more.
    fn make_queues(&mut self) {
        let wanted = self.limits.queuing.map_or(1, |queuing| queuing.queues.max(1));
        while self.queues.len() < wanted {
            self.queues.push(Queue { seated: 0, waiting: VecDeque::new() });
        }
    }

    /// The queue for a request of a flow: of its hand, the one with the fewest that wait and sit.
    fn deal(&self, flow: u64) -> usize {
        let Some(queuing) = self.limits.queuing else { return 0 };
        let hand = hand(flow, queuing.queues, queuing.hand);
        let load =
            |queue: &usize| self.queues.get(*queue).map_or(0, |queue| queue.seated + queue.waiting.len());
        hand.into_iter().min_by_key(load).unwrap_or_default()
    }

    fn seat(&mut self, queue: usize) {
        self.used += 1;
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.seated += 1;
        }
    }

    /// Who is next: the first of the queue that holds the fewest seats, and of those the one that waits longest.
    fn next(&mut self) -> Option<(usize, W)> {
        let waiting = self.queues.iter().enumerate().filter_map(|(at, queue)| {
            let (ticket, _) = queue.waiting.front()?;
            Some((queue.seated, *ticket, at))
        });
        let (_, _, at) = waiting.min()?;
        let (_, who) = self.queues.get_mut(at)?.waiting.pop_front()?;
        self.waiting -= 1;
        self.seat(at);
        Some((at, who))
    }
}

/// Deals a hand of distinct queues to a flow (`shufflesharding.Dealer`): the same one each time, and for another flow most likely another.
fn hand(mut flow: u64, queues: usize, size: usize) -> Vec<usize> {
    let mut hand: Vec<usize> = Vec::with_capacity(size);
    for dealt in 0..size.min(queues) {
        let left = (queues - dealt) as u64;
        let mut card = (flow % left) as usize;
        flow /= left;
        // The number counts only queues that are not dealt yet.
        let mut sorted = hand.clone();
        sorted.sort_unstable();
        for taken in sorted {
            if taken <= card {
                card += 1;
            }
        }
        hand.push(card);
    }
    hand
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn limits(shares: u64, lendable: u64, queuing: Option<(usize, usize, usize)>) -> Limits {
        Limits {
            shares,
            lendable_percent: lendable,
            borrowing_percent: None,
            queuing: queuing.map(|(queues, hand, length)| Queuing { queues, hand, length }),
        }
    }

    fn seats(total: usize, levels: &[(&str, Limits)]) -> Seats<u32> {
        let mut seats = Seats::new(total, 1000);
        let levels: Vec<_> = levels.iter().map(|(name, limits)| (Arc::from(*name), limits.clone())).collect();
        assert!(seats.share_out(&levels).is_empty());
        seats
    }

    fn sit(seats: &mut Seats<u32>, level: &str, flow: u64) -> Option<Place> {
        match seats.arrive(level, flow, || 0) {
            Arrival::Seated(place) => Some(place),
            _ => None,
        }
    }

    #[test]
    fn seats_are_shared_out_by_shares() {
        let seats =
            seats(600, &[("a", limits(100, 0, None)), ("b", limits(20, 0, None)), ("c", limits(5, 0, None))]);
        let mut level_states = seats.level_states();
        level_states.sort_unstable_by_key(|level| level.nominal);
        let told: Vec<_> =
            level_states.iter().map(|level| (level.nominal, level.least, level.most)).collect();
        assert_eq!(told, [(24, 24, 624), (96, 96, 696), (480, 480, 1080)]);
    }

    #[test]
    fn what_is_not_lent_is_always_there_for_its_owner() {
        let mut seats = seats(10, &[("a", limits(5, 40, None)), ("b", limits(5, 0, None))]);
        let borrowed = (0..20).filter(|_| sit(&mut seats, "b", 1).is_some()).count();
        assert_eq!(borrowed, 7, "five of its own, and two that the other lends");
        let own = (0..20).filter(|_| sit(&mut seats, "a", 1).is_some()).count();
        assert_eq!(own, 3);
    }

    #[test]
    fn what_is_lent_comes_back_to_its_owner_first() {
        let queued = Some((4, 2, 10));
        let mut seats = seats(4, &[("a", limits(2, 100, queued)), ("b", limits(2, 0, queued))]);
        let mut all: Vec<_> = (0..4).map(|_| sit(&mut seats, "b", 1).unwrap()).collect();
        assert_eq!(seats.arrive("b", 1, || 7), Arrival::Waits);
        assert_eq!(seats.arrive("a", 1, || 8), Arrival::Waits);
        let next = seats.leave(all.pop().unwrap());
        assert_eq!(next.iter().map(|(_, who)| *who).collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn a_borrowing_limit_is_kept() {
        let mut own = limits(5, 0, None);
        own.borrowing_percent = Some(20);
        let mut seats = seats(10, &[("a", limits(5, 100, None)), ("b", own)]);
        assert_eq!((0..20).filter(|_| sit(&mut seats, "b", 1).is_some()).count(), 6);
    }

    #[test]
    fn a_level_without_queues_refuses_and_one_with_queues_holds_only_so_many() {
        let mut seats = seats(2, &[("a", limits(1, 0, None)), ("b", limits(1, 0, Some((1, 1, 2))))]);
        assert!(sit(&mut seats, "a", 1).is_some());
        assert_eq!(seats.arrive("a", 1, || 0), Arrival::Refused);
        assert!(sit(&mut seats, "b", 1).is_some());
        let told: Vec<_> = (0..3).map(|_| seats.arrive("b", 1, || 0)).collect();
        assert_eq!(told, [Arrival::Waits, Arrival::Waits, Arrival::Refused]);
    }

    /// How many of many flows may wait in a level.
    fn wait(seats: &mut Seats<u32>, level: &str) -> usize {
        (0..10_000).filter(|flow| seats.arrive(level, *flow, || 0) == Arrival::Waits).count()
    }

    #[test]
    fn a_level_that_is_flooded_leaves_room_for_the_others() {
        let queued = Some((128, 1, 50));
        let levels = [
            ("flood", limits(3, 0, queued)),
            ("other", limits(1, 0, queued)),
            ("none", limits(0, 0, Some((1, 1, 10)))),
            ("refuses", limits(4, 0, None)),
        ];
        let mut seats = seats(8, &levels);
        for _ in 0..3 {
            sit(&mut seats, "flood", 1).unwrap();
        }
        let seat = sit(&mut seats, "other", 1).unwrap();
        // Of 1000 places 187, 62 and 10 are somebody's.
        assert_eq!(wait(&mut seats, "flood"), 187 + 741);
        assert_eq!(wait(&mut seats, "other"), 62);
        assert_eq!(wait(&mut seats, "none"), 10);
        // Who sits down makes room in his own level.
        assert_eq!(seats.leave(seat).len(), 1);
        assert_eq!((wait(&mut seats, "flood"), wait(&mut seats, "other")), (0, 1));
    }

    #[test]
    fn the_whole_room_is_for_the_only_level() {
        let mut seats = seats(1, &[("a", limits(1, 0, Some((128, 1, 50))))]);
        sit(&mut seats, "a", 1).unwrap();
        assert_eq!(wait(&mut seats, "a"), 1000);
    }

    #[test]
    fn a_modest_flow_is_served_before_the_rest_of_a_greedy_one() {
        let mut seats = seats(4, &[("a", limits(1, 0, Some((64, 2, 50))))]);
        let first = sit(&mut seats, "a", 0).unwrap();
        for _ in 0..3 {
            sit(&mut seats, "a", 0).unwrap();
        }
        for number in 0..40 {
            seats.arrive("a", 0, || number);
        }
        assert_eq!(seats.arrive("a", 987_654_321, || 1000), Arrival::Waits);
        assert_eq!(seats.leave(first).first().map(|(_, who)| *who), Some(1000));
    }

    #[test]
    fn a_hand_has_distinct_queues_and_is_the_same_each_time() {
        for flow in (0..2000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            let mut dealt = hand(flow, 128, 6);
            assert_eq!(dealt, hand(flow, 128, 6));
            dealt.sort_unstable();
            dealt.dedup();
            assert!(dealt.len() == 6 && dealt.iter().all(|queue| *queue < 128));
        }
    }

    #[test]
    fn more_seats_for_a_level_wake_who_waits_there() {
        let queued = Some((1, 1, 10));
        let mut seats = seats(4, &[("a", limits(1, 0, queued)), ("b", limits(3, 0, queued))]);
        sit(&mut seats, "a", 1).unwrap();
        for _ in 0..3 {
            assert_eq!(seats.arrive("a", 1, || 0), Arrival::Waits);
        }
        let next = seats.share_out(&[("a".into(), limits(3, 0, queued)), ("b".into(), limits(1, 0, queued))]);
        assert_eq!(next.len(), 2);
    }

    #[test]
    fn a_level_that_went_is_forgotten_with_its_last_request() {
        let keep: (Arc<str>, Limits) = ("keep".into(), limits(1, 0, None));
        let mut seats = seats(4, &[("keep", limits(1, 0, None)), ("a", limits(1, 0, None))]);
        let held = sit(&mut seats, "a", 1).unwrap();
        seats.share_out(std::slice::from_ref(&keep));
        assert!(seats.knows("a"), "one still sits there");
        seats.leave(held);
        assert!(!seats.knows("a"));
        for number in 0..100 {
            let name: Arc<str> = format!("level-{number}").into();
            seats.share_out(&[keep.clone(), (name, limits(1, 0, Some((64, 8, 50))))]);
            seats.share_out(std::slice::from_ref(&keep));
        }
        assert!(seats.levels.len() <= 3, "{} levels are kept", seats.levels.len());
        assert!(sit(&mut seats, "keep", 1).is_some());
    }
}
