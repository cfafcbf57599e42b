//! Windows of all threads, put together and said in order.

use std::collections::VecDeque;
use std::sync::Arc;

use exit137_workload::traffic::{Line, Load, Window};

use super::say;
use super::shared::Shared;

pub struct Windows {
    shared: Arc<Shared>,
    /// Those that are not said yet, the oldest first: what has been counted in it, and where it ends, once that is known.
    open: VecDeque<(Window, Option<u64>)>,
    /// The number of the oldest.
    oldest: u64,
    /// Where it begins.
    from: u64,
    /// In which window each worker counts; none once it has finished.
    counting: Vec<Option<u64>>,
    /// Requests sent, less those that ended, in all that was said.
    in_flight: u64,
}

impl Windows {
    /// Workers begin to count in window `first`: those before it are what was missed by hearing of the start too late.
    pub fn new(shared: &Arc<Shared>, first: u64) -> Self {
        Self {
            open: VecDeque::from([(Window::default(), None)]),
            oldest: 0,
            from: shared.zero,
            counting: vec![Some(first); shared.workers()],
            in_flight: 0,
            shared: Arc::clone(shared),
        }
    }

    /// The newest one ends here.
    pub fn cut(&mut self, at: u64) -> Result<(), String> {
        if let Some((_, to)) = self.open.back_mut() {
            *to = Some(at);
        }
        self.open.push_back((Window::default(), None));
        self.say_complete()
    }

    /// A worker has counted this in a window, and counts in another one now, or has finished.
    pub fn counted(
        &mut self,
        worker: usize,
        window: u64,
        counted: &Window,
        now: Option<u64>,
    ) -> Result<(), String> {
        let place = usize::try_from(window.saturating_sub(self.oldest)).unwrap_or(usize::MAX);
        let (open, _) =
            self.open.get_mut(place).ok_or("a thread counted in a window that was said already")?;
        open.absorb(counted);
        if let Some(counting) = self.counting.get_mut(worker) {
            *counting = now;
        }
        self.say_complete()
    }

    pub fn all_finished(&self) -> bool {
        self.counting.iter().all(Option::is_none)
    }

    /// How many have been said.
    pub fn said(&self) -> u64 {
        self.oldest
    }

    /// All workers have finished: the last one ends now. One in which nothing was and that has no time in the load is none.
    pub fn close(&mut self, now: u64) -> Result<(), String> {
        while let Some((window, to)) = self.open.pop_front() {
            let to = to.unwrap_or(now).max(self.from);
            let empty = window == Window::default() && self.open.is_empty();
            if empty && self.in_flight == 0 && self.from >= self.shared.end && self.oldest > 0 {
                break;
            }
            self.say(window, to)?;
        }
        Ok(())
    }

    fn say_complete(&mut self) -> Result<(), String> {
        loop {
            let oldest = self.oldest;
            let over = |counting: &Option<u64>| counting.is_none_or(|now| now > oldest);
            match self.open.front() {
                Some((_, Some(to))) if self.counting.iter().all(over) => {
                    let to = *to;
                    let Some((window, _)) = self.open.pop_front() else { return Ok(()) };
                    self.say(window, to)?;
                }
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn say(&mut self, mut window: Window, to: u64) -> Result<(), String> {
        let (shared, from) = (&self.shared, self.from);
        window.sequence = self.oldest;
        (window.from_ns, window.to_ns) = (from, to);
        window.stage = shared.generator.load.stage_at(from.saturating_sub(shared.zero));
        match shared.generator.load {
            Load::ArrivalRate { .. } => {
                // A pure function of time: whatever became of them, so many were due.
                window.due = shared.due_before(to) - shared.due_before(from);
                let missed = |at: u64| shared.due_before(at.min(shared.heard));
                window.dropped += missed(to) - missed(from);
            }
            Load::Vus { .. } => window.due = window.sent - window.retried,
        }
        self.in_flight = (self.in_flight + window.sent).saturating_sub(window.outcomes.total());
        window.in_flight = self.in_flight;
        (self.oldest, self.from) = (self.oldest + 1, to);
        say(&Line::Window(Box::new(window)))
    }
}
