//! A pod's network namespace: its loopback interface and its address.

use std::io;
use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, SendFlags, SocketType, send, socket};

/// Every pod's own address, in its own network namespace. What listens on 127.0.0.1 only is not reached by it, as on a
/// cluster.
pub const POD_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 137, 0, 1);

/// `lo` is always the first interface of a network namespace.
const LO: u32 = 1;

/// Brings `lo` up and gives it the pod's address, in this process's network namespace.
pub fn set_up() -> io::Result<()> {
    // RTM_NEWLINK (16) with ifinfomsg: family, padding, type, index, flags, change; IFF_UP is 1.
    let mut link = vec![0_u8; 4];
    for word in [LO, 1, 1] {
        link.extend(word.to_ne_bytes());
    }
    request(16, &link)?;
    // RTM_NEWADDR (20) with ifaddrmsg: family AF_INET, prefix length, flags, scope, index; then IFA_LOCAL (2).
    let mut address = vec![2_u8, 32, 0, 0];
    address.extend(LO.to_ne_bytes());
    address.extend(8_u16.to_ne_bytes());
    address.extend(2_u16.to_ne_bytes());
    address.extend(POD_ADDRESS.octets());
    request(20, &address)
}

/// Sends one rtnetlink request and waits for the kernel's acknowledgement (netlink(7)).
fn request(kind: u16, body: &[u8]) -> io::Result<()> {
    const NLM_F_REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
    // NETLINK_ROUTE is protocol 0.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let mut message = Vec::new();
    message.extend(u32::try_from(16 + body.len()).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK_CREATE.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0_u8; 1024];
    let read = rustix::io::read(&socket, &mut answer)?;
    // nlmsgerr: the header, then the negative errno.
    let errno = answer
        .get(16..20)
        .filter(|_| read >= 20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    match errno {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::Error::other("the kernel did not acknowledge a netlink request")),
    }
}
