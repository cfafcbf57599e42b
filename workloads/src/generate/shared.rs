//! What the threads of a generator share. Nothing in it is locked while requests are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use exit137_workload::traffic::{Generator, Load, Share};
use tokio::sync::Notify;

use super::Event;
use super::cuts::Cuts;
use super::endpoints::Endpoints;

/// More threads would fight with each other: one sends tens of thousands of requests per second.
const MOST_WORKERS: usize = 4;
/// What one thread is given, at least, before another one is started.
const PER_SECOND: u64 = 20_000;
const VUS: u32 = 16;

pub struct Shared {
    pub generator: Generator,
    pub endpoints: Arc<Endpoints>,
    pub cuts: Cuts,
    /// The load's zero.
    pub zero: u64,
    /// When that was heard, if it was too late; else the zero.
    pub heard: u64,
    /// The load's end.
    pub end: u64,
    /// From when on nothing is to happen any more.
    stopped: AtomicU64,
    finished: AtomicBool,
    /// Of an open load: how many of its VUs are idle.
    idle_vus: AtomicU32,
    wakes: Vec<Arc<Notify>>,
}

impl Shared {
    pub fn new(
        generator: &Generator,
        endpoints: Arc<Endpoints>,
        zero: u64,
        now: u64,
        said: &Sender<Event>,
    ) -> Self {
        let load = &generator.load;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let vus = generator.share.part_of(load.most_vus().into());
        let wanted = match load {
            Load::ArrivalRate { .. } => {
                (load.most_per_second() / u64::from(generator.share.of)).div_ceil(PER_SECOND).min(vus)
            }
            Load::Vus { .. } => vus.div_ceil(VUS.into()),
        };
        let workers = usize::try_from(wanted).unwrap_or(usize::MAX).min(cpus).clamp(1, MOST_WORKERS);
        let wakes: Vec<_> = (0..workers).map(|_| Arc::new(Notify::new())).collect();
        let ends = load.stage_ends_ns().map(|end| zero + end).collect();
        let cuts = Cuts::new(zero, ends, wakes.clone(), said.clone());
        let heard = now.max(zero);
        cuts.passed(heard);
        Self {
            generator: generator.clone(),
            endpoints,
            cuts,
            zero,
            heard,
            end: zero + load.end_ns(),
            stopped: AtomicU64::new(u64::MAX),
            finished: AtomicBool::new(false),
            idle_vus: AtomicU32::new(u32::try_from(vus).unwrap_or(u32::MAX)),
            wakes,
        }
    }

    pub fn workers(&self) -> usize {
        self.wakes.len()
    }

    /// What is due to a worker.
    pub fn share_of(&self, worker: usize) -> Share {
        let part = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.generator.share.divided(Share { index: part(worker), of: part(self.workers()) })
    }

    pub fn wake_of(&self, worker: usize) -> Arc<Notify> {
        self.wakes.get(worker).map_or_else(Default::default, Arc::clone)
    }

    pub fn wake(&self, worker: usize) {
        if let Some(wake) = self.wakes.get(worker) {
            wake.notify_one();
        }
    }

    pub fn wake_all(&self) {
        self.wakes.iter().for_each(|wake| wake.notify_one());
    }

    /// How many iterations of this generator are due before this moment, a stop considered.
    pub fn due_before(&self, at: u64) -> u64 {
        let at = at.min(self.stopped());
        if at <= self.zero { 0 } else { self.generator.share.part_of(self.due_by(at - 1)) }
    }

    /// How many iterations of the whole load are due by this moment.
    pub fn due_by(&self, at: u64) -> u64 {
        if at < self.zero { 0 } else { self.generator.load.due_by(at - self.zero) }
    }

    /// Nothing is to happen from now on.
    pub fn stop(&self, now: u64) {
        self.stopped.fetch_min(now, Ordering::AcqRel);
        self.wake_all();
    }

    pub fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Acquire)
    }

    /// When requests in flight at the end of the load are given up.
    pub fn given_up(&self) -> u64 {
        self.end.saturating_add(self.generator.graceful_stop_ms.saturating_mul(1_000_000)).min(self.stopped())
    }

    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Takes an idle VU of an open load, if there is one.
    pub fn take_vu(&self) -> bool {
        let less = |idle: u32| idle.checked_sub(1);
        self.idle_vus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    pub fn give_vu_back(&self) {
        self.idle_vus.fetch_add(1, Ordering::Relaxed);
    }
}
