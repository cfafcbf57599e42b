//! How watched processes end, from the kernel's own notices: the proc connector (`drivers/connector/cn_proc.c`).
//!
//! A notice carries the raw wait status, which tells an `exit(137)` from a SIGKILL where Kubernetes has one number for both.
//! It takes CAP_NET_ADMIN and the initial network and PID namespaces.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::drain::Drain;
use super::hub::{Hub, Subscriber};
use crate::clock;
use crate::evidence::{ContainerEnded, End, Fact, Moment, Source, SourceState};

/// `CN_IDX_PROC`, `CN_VAL_PROC` (`include/uapi/linux/connector.h`): which connector, and the group of its listeners.
const PROC: u32 = 1;
/// `PROC_CN_MCAST_LISTEN` (`include/uapi/linux/cn_proc.h`).
const LISTEN: u32 = 1;
/// `PROC_EVENT_EXIT`.
const EXIT: u32 = 0x8000_0000;
/// So many bytes of notices may wait for the reader: some thousands, for hundreds of pods may die at once.
const ROOM: usize = 4 << 20;
/// Before the event: `struct nlmsghdr` (16 bytes) and `struct cn_msg` (20 bytes).
const EVENT_AT: usize = 36;

/// Reads the notices in a thread of its own.
#[derive(Debug)]
pub(super) struct Exits {
    drain: Arc<Drain>,
    thread: Option<JoinHandle<()>>,
}

impl Exits {
    pub(super) fn start(hub: Arc<Hub>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::CONNECTOR))?;
        // Where it is refused, the default has room for some hundreds, and a gap is told.
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, ROOM);
        bind(&socket, &SocketAddrNetlink::new(0, PROC))?;
        rustix::io::write(&socket, &subscription())?;
        let drain = Arc::new(Drain::new()?);
        let bell = Arc::clone(&drain);
        let thread = std::thread::Builder::new().name("exit137-exits".into()).spawn(move || {
            if let Err(error) = run(&socket, &hub, &bell) {
                hub.lost(Source::Exits, &error);
            }
            bell.dead();
        })?;
        Ok(Self { drain, thread: Some(thread) })
    }

    /// Reads all notices that there are by now.
    pub(super) fn drain(&self) -> bool {
        self.drain.ask()
    }
}

impl Drop for Exits {
    fn drop(&mut self) {
        self.drain.stop();
        if let Some(thread) = self.thread.take() {
            // It has said what it had to say.
            let _ = thread.join();
        }
    }
}

/// The message that asks for the notices.
fn subscription() -> Vec<u8> {
    let message: [u32; 6] = [PROC, PROC, 0, 0, 4, LISTEN];
    let length = 16 + 4 * 6_u32;
    // nlmsghdr: length, type NLMSG_DONE and flags, sequence, sender.
    let header: [u32; 4] = [length, 3, 0, 0];
    header.iter().chain(&message).flat_map(|word| word.to_ne_bytes()).collect()
}

fn run(socket: &OwnedFd, hub: &Hub, drain: &Drain) -> io::Result<()> {
    loop {
        let mut fds =
            [PollFd::new(socket, PollFlags::IN), PollFd::from_borrowed_fd(drain.bell(), PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let Some(asked) = drain.begin() else { return Ok(()) };
        read_dry(socket, hub)?;
        drain.done(asked);
    }
}

fn read_dry(socket: &OwnedFd, hub: &Hub) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(socket, &mut buffer) {
            Ok(read) => {
                if let Some(exit) = buffer.get(..read).and_then(parse) {
                    tell(hub, exit);
                }
            }
            Err(Errno::AGAIN) => {
                hub.each(Subscriber::forget_doubted);
                return Ok(());
            }
            Err(Errno::INTR) => {}
            // The kernel had no room for some notices; how many it does not say.
            Err(Errno::NOBUFS) => {
                let gap = Fact::Source(SourceState::Gap { of: Source::Exits, lost: 1 });
                hub.each(|subscriber| {
                    subscriber.recorder.now(Source::Exits, gap.clone());
                    subscriber.doubt_dead();
                });
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A process that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exit {
    monotonic_ns: u64,
    pid: u32,
    status: u32,
}

/// `struct proc_event`: what, cpu, timestamp, then pid, tgid, status, signal to the parent.
fn parse(message: &[u8]) -> Option<Exit> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(message.get(EVENT_AT + at..EVENT_AT + at + 4)?.try_into().ok()?))
    };
    let (pid, group) = (word(16)?, word(20)?);
    // A thread's end is not its process's.
    if word(0)? != EXIT || pid != group {
        return None;
    }
    let stamp = message.get(EVENT_AT + 8..EVENT_AT + 16)?.try_into().ok()?;
    Some(Exit { monotonic_ns: u64::from_ne_bytes(stamp), pid, status: word(24)? })
}

/// As `wait(2)` has it: a signal in the low seven bits, an exit status above them.
fn end_of(status: u32) -> End {
    let number = |bits: u32| i32::try_from(bits).unwrap_or(i32::MAX);
    match status & 0x7f {
        0 => End::Exited(number((status >> 8) & 0xff)),
        signal => End::Signaled(number(signal)),
    }
}

fn tell(hub: &Hub, exit: Exit) {
    // `ktime_get_ns`: boot time without the time spent in suspend.
    let suspended = clock::boot_ns().saturating_sub(clock::monotonic_ns());
    let at = Moment::around(exit.monotonic_ns + suspended, 1_000);
    hub.each(|subscriber| {
        let Some(container) = subscriber.take_main(exit.pid) else { return };
        let end = end_of(exit.status);
        let ended = ContainerEnded { container, end, reason: None, invented: None, cpu_ms: None };
        subscriber.recorder.record(Source::Exits, at, None, Fact::Ended(ended));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(what: u32, pid: u32, group: u32, status: u32) -> Vec<u8> {
        let words = [[0; 9].as_slice(), &[what, 0, 5, 0, pid, group, status, 17]].concat();
        words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_notice_tells_an_exit_with_137_from_a_sigkill() {
        let exited = parse(&notice(EXIT, 7, 7, 0x8900)).unwrap();
        assert_eq!((exited.pid, exited.monotonic_ns, end_of(exited.status)), (7, 5, End::Exited(137)));
        let killed = parse(&notice(EXIT, 7, 7, 9)).unwrap();
        assert_eq!(end_of(killed.status), End::Signaled(9));
        assert_eq!(end_of(0x86), End::Signaled(6), "with a core dump");
    }

    #[test]
    fn other_notices_threads_and_torn_ones_are_passed_over() {
        assert_eq!(parse(&notice(1, 7, 7, 0)), None);
        assert_eq!(parse(&notice(EXIT, 8, 7, 0)), None);
        assert_eq!(parse(&notice(EXIT, 7, 7, 0)[..50]), None);
        assert_eq!(parse(&[]), None);
    }
}
