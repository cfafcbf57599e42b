//! So many requests at a time; the others wait in the order that they came in.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Workers, and those who wait for one.
pub struct Queue {
    most_waiting: u32,
    state: Mutex<State>,
}

struct State {
    idle: u32,
    /// By number, rising.
    waiting: VecDeque<(u64, Sender<()>)>,
    next: u64,
}

/// A place in the queue, or at a worker, until this is dropped.
pub struct Place<'a> {
    queue: &'a Queue,
    /// The number under which it waits, and what hears that its turn has come; none at a worker.
    waits: Option<(u64, Receiver<()>)>,
}

impl Queue {
    /// All workers are idle; without a number, there is always one.
    pub fn new(workers: Option<u32>, most_waiting: Option<u32>) -> Self {
        let state = State { idle: workers.unwrap_or(u32::MAX), waiting: VecDeque::new(), next: 0 };
        Self { most_waiting: most_waiting.unwrap_or(u32::MAX), state: Mutex::new(state) }
    }

    /// Takes a worker or queues for one; none where as many wait already as may.
    pub fn join(&self) -> Option<Place<'_>> {
        let mut state = self.state();
        if state.idle > 0 {
            state.idle -= 1;
            return Some(Place { queue: self, waits: None });
        }
        if state.waiting.len() >= usize::try_from(self.most_waiting).unwrap_or(usize::MAX) {
            return None;
        }
        let (call, called) = channel();
        let number = state.next;
        state.next += 1;
        state.waiting.push_back((number, call));
        Some(Place { queue: self, waits: Some((number, called)) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits until a worker is there.
    pub fn wait(&mut self) {
        if let Some((_, called)) = self.waits.take() {
            // It is called as long as it is in the queue, which only dropping it ends.
            let _ = called.recv();
        }
    }
}

impl Drop for Place<'_> {
    /// Leaves the queue, or hands the worker over to whoever has waited the longest.
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if let Some((number, _)) = &self.waits
            && let Ok(place) = state.waiting.binary_search_by_key(number, |(number, _)| *number)
        {
            state.waiting.remove(place);
            return;
        }
        match state.waiting.pop_front() {
            Some((_, call)) => drop(call.send(())),
            None => state.idle += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// How many workers are idle, and how many wait.
    fn count(queue: &Queue) -> (u32, usize) {
        let state = queue.state();
        (state.idle, state.waiting.len())
    }

    #[test]
    fn who_came_first_is_served_first_and_no_more_at_a_time_than_there_are_workers() {
        let queue = Queue::new(Some(2), None);
        let (one, other) = (queue.join().unwrap(), queue.join().unwrap());
        let (served, order) = channel();
        thread::scope(|scope| {
            for number in 0..5 {
                let (mut place, served) = (queue.join().unwrap(), served.clone());
                scope.spawn(move || {
                    place.wait();
                    served.send(number).unwrap();
                });
            }
            assert!(order.try_recv().is_err(), "both workers are busy");
            // One worker serves them all, one after the other.
            drop(one);
            assert_eq!(order.iter().take(5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
            drop(other);
        });
        assert_eq!(count(&queue), (2, 0));
    }

    #[test]
    fn who_leaves_the_queue_is_passed_over_whether_called_already_or_not() {
        let queue = Queue::new(Some(1), Some(2));
        let busy = queue.join().unwrap();
        let (first, second) = (queue.join().unwrap(), queue.join().unwrap());
        assert!(queue.join().is_none(), "two wait already");
        drop(first);
        let mut third = queue.join().unwrap();
        drop(busy);
        drop(second);
        third.wait();
        assert_eq!(count(&queue), (0, 0));
        drop(third);
        assert_eq!(count(&queue), (1, 0));
    }

    #[test]
    fn nobody_waits_where_nobody_may() {
        let queue = Queue::new(Some(1), Some(0));
        let only = queue.join();
        assert!(only.is_some() && queue.join().is_none());
        drop(only);
        assert!(queue.join().is_some());
    }
}
