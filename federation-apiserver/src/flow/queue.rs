//! Fair queuing by user. Pure: who waits is any value `W`, given back when it is its turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// What becomes of a request that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It has a seat.
    Seated(Arc<str>),
    /// It will be given back by [`FairQueue::leave`].
    Waits(Arc<str>),
    /// There is no room to wait in.
    Refused,
}

/// One user's requests. It is there as long as it has any.
#[derive(Debug)]
struct User<W> {
    name: Arc<str>,
    seated: usize,
    waiting: VecDeque<W>,
}

/// Seats, and the queues of those who wait for one.
#[derive(Debug)]
pub(super) struct FairQueue<W> {
    free: usize,
    waiting: usize,
    waiting_max: usize,
    waiting_total_max: usize,
    users: HashMap<Arc<str>, User<W>>,
    /// Users with waiting requests, in the order in which they began to wait.
    line: VecDeque<Arc<str>>,
}

impl<W> FairQueue<W> {
    pub(super) fn new(seats: usize, waiting_max: usize, waiting_total_max: usize) -> Self {
        Self {
            free: seats,
            waiting: 0,
            waiting_max,
            waiting_total_max,
            users: HashMap::new(),
            line: VecDeque::new(),
        }
    }

    /// A request comes. `who` is made only if it has to wait.
    pub(super) fn arrive(&mut self, name: &str, who: impl FnOnce() -> W) -> Arrival {
        let full = self.free == 0;
        if full && self.waiting >= self.waiting_total_max {
            return Arrival::Refused;
        }
        if !self.users.contains_key(name) {
            let name: Arc<str> = name.into();
            let user = User { name: Arc::clone(&name), seated: 0, waiting: VecDeque::new() };
            self.users.insert(name, user);
        }
        let Some(user) = self.users.get_mut(name) else { return Arrival::Refused };
        let name = Arc::clone(&user.name);
        if !full {
            self.free -= 1;
            user.seated += 1;
            return Arrival::Seated(name);
        }
        if user.waiting.len() >= self.waiting_max {
            return Arrival::Refused;
        }
        if user.waiting.is_empty() {
            self.line.push_back(Arc::clone(&name));
        }
        user.waiting.push_back(who());
        self.waiting += 1;
        Arrival::Waits(name)
    }

    /// A request of `name` gives its seat back. Returns who has it now, if anybody waits.
    pub(super) fn leave(&mut self, name: &str) -> Option<(Arc<str>, W)> {
        if let Some(user) = self.users.get_mut(name) {
            user.seated -= 1;
            if user.seated == 0 && user.waiting.is_empty() {
                self.users.remove(name);
            }
        }
        let seated = |name: &Arc<str>| self.users.get(name).map_or(0, |user| user.seated);
        // Of those who hold equally few seats, the one that waits longest.
        let place = (0..self.line.len()).min_by_key(|place| self.line.get(*place).map(seated));
        let Some(name) = place.and_then(|place| self.line.remove(place)) else {
            self.free += 1;
            return None;
        };
        let user = self.users.get_mut(&name)?;
        let next = user.waiting.pop_front()?;
        user.seated += 1;
        self.waiting -= 1;
        if !user.waiting.is_empty() {
            self.line.push_back(Arc::clone(&name));
        }
        Some((name, next))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_goes_to_who_holds_the_fewest() {
        let mut queue = FairQueue::new(3, 10, 100);
        for number in 0..8 {
            queue.arrive("greedy", || number);
        }
        assert_eq!(queue.arrive("modest", || 100), Arrival::Waits("modest".into()));
        let (name, who) = queue.leave("greedy").unwrap();
        assert_eq!((&*name, who), ("modest", 100));
        assert_eq!(queue.leave("greedy").unwrap().1, 3);
    }

    #[test]
    fn each_user_has_room_of_his_own() {
        let mut queue = FairQueue::new(1, 2, 100);
        for _ in 0..3 {
            queue.arrive("greedy", || 0);
        }
        assert_eq!(queue.arrive("greedy", || 0), Arrival::Refused);
        assert_eq!(queue.arrive("modest", || 0), Arrival::Waits("modest".into()));
    }

    #[test]
    fn nothing_is_left_of_who_is_gone() {
        let mut queue = FairQueue::new(2, 2, 3);
        for name in ["a", "b", "c", "c", "d"] {
            queue.arrive(name, || name);
        }
        assert_eq!(queue.arrive("e", || "e"), Arrival::Refused);
        let mut seated = vec!["a", "b"];
        while let Some(name) = seated.pop() {
            seated.extend(queue.leave(name).map(|(_, who)| who));
        }
        assert_eq!((queue.free, queue.waiting, queue.users.len(), queue.line.len()), (2, 0, 0, 0));
    }
}
