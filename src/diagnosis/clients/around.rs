//! What clients saw around each end: before it, until answers were good again, and after.

use exit137_workload::traffic::Window;

use super::Tally;
use crate::diagnosis::findings::ClientImpact;

/// Answers are good again with the first good one after which no request fails for so long.
const QUIET_NS: u64 = 1_000_000_000;

/// What clients saw of each of these kills; `windows` are in the order of their ends. Every window counts in exactly one part: before
/// the first kill, during one, or after it, which is before the next. `traffic` is left empty.
pub(super) fn impacts(windows: &[Window], kills: &[u64]) -> Vec<ClientImpact> {
    let mut order: Vec<usize> = (0..kills.len()).collect();
    order.sort_by_key(|index| kills[*index]);
    let sorted: Vec<u64> = order.iter().map(|index| kills[*index]).collect();
    let again: Vec<Option<u64>> = (0..sorted.len())
        .map(|n| good_again(windows, sorted[n], sorted.get(n + 1).copied().unwrap_or(u64::MAX)))
        .collect();
    // Part 0 is before the first kill, 2n + 1 during kill n, 2n + 2 after it.
    let mut parts: Vec<Vec<&Window>> = vec![Vec::new(); 2 * sorted.len() + 1];
    for window in windows {
        parts[part(window, &sorted, &again)].push(window);
    }
    let mut impacts = vec![ClientImpact::default(); kills.len()];
    for (n, index) in order.into_iter().enumerate() {
        let kill = sorted[n];
        let during = &parts[2 * n + 1];
        let failures = || during.iter().flat_map(|window| failures(window)).filter(|at| *at >= kill);
        impacts[index] = ClientImpact {
            traffic: String::new(),
            killed_ns: kill,
            first_failed_ns: failures().min(),
            last_failed_ns: failures().max(),
            first_reset_ns: during
                .iter()
                .filter_map(|window| window.first_reset_ns)
                .filter(|at| *at >= kill)
                .min(),
            good_again_ns: again[n],
            before: Tally::of(parts[2 * n].iter().copied()),
            during: Tally::of(during.iter().copied()),
            after: Tally::of(parts[2 * n + 2].iter().copied()),
        };
    }
    impacts
}

/// In which part a window counts.
fn part(window: &Window, kills: &[u64], again: &[Option<u64>]) -> usize {
    let mut n = kills.partition_point(|kill| *kill < window.to_ns);
    // One that began before a kill and in which nothing failed since tells of the time before.
    while n > 0 && window.from_ns < kills[n - 1] && failures(window).all(|at| at < kills[n - 1]) {
        n -= 1;
    }
    let Some(kill) = n.checked_sub(1) else { return 0 };
    let first_failed = window.first_failed.map(|failure| failure.at_ns);
    let over =
        again[kill].is_some_and(|again| window.to_ns > again && first_failed.is_none_or(|at| at > again));
    if over { 2 * kill + 2 } else { 2 * kill + 1 }
}

/// When answers were good again after a kill, if they were before `until`.
pub(super) fn good_again(windows: &[Window], kill: u64, until: u64) -> Option<u64> {
    // No window that ends later than this after a moment reaches back to it.
    let longest = windows.iter().map(|window| window.to_ns.saturating_sub(window.from_ns)).max()?;
    let since = |from: u64| windows.iter().skip(windows.partition_point(|window| window.to_ns < from));
    let mut from = kill;
    loop {
        let mut again: Option<u64> = None;
        for window in since(from) {
            if again.is_some_and(|again| window.to_ns > again.saturating_add(longest)) {
                break;
            }
            again = again.into_iter().chain(good_since(window, from).filter(|at| *at >= from)).min();
        }
        let again = again.filter(|at| *at < until)?;
        let quiet = again.saturating_add(QUIET_NS);
        let soon = since(again).take_while(|window| window.to_ns <= quiet.saturating_add(longest));
        // The last failure of a window stands for those that may lie between its first one and that.
        let failed = soon.flat_map(failures).filter(|at| (again..quiet.min(until)).contains(at)).max();
        match failed {
            Some(at) => from = at + 1,
            None => return Some(again),
        }
    }
}

/// When the first good answer of a window since then was, as far as it says: between the first and the last of one in which nothing
/// failed, answers were good all the time.
fn good_since(window: &Window, from: u64) -> Option<u64> {
    let (first, last) = (window.first_good_ns?, window.last_good_ns?);
    match () {
        () if first >= from => Some(first),
        () if last >= from && window.first_failed.is_none() => Some(from),
        () => Some(last),
    }
}

/// The first and the last moment at which a request failed in a window.
fn failures(window: &Window) -> impl Iterator<Item = u64> + use<> {
    [window.first_failed, window.last_failed].into_iter().flatten().map(|failure| failure.at_ns)
}
