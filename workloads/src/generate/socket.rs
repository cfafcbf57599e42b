//! Sockets, made in the network namespace where they are wanted.
//!
//! A socket belongs to the namespace that its thread was in when it was made. So a thread goes there and makes them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::control::spawn;

/// What a socket is wanted for, and who gets it.
type Order = (AddressFamily, oneshot::Sender<io::Result<OwnedFd>>);

/// Where sockets are made.
pub enum Sockets {
    /// In the network namespace of this process.
    Here,
    /// In another one, by the thread that hears these.
    There(Sender<Order>),
    /// That one is gone, or cannot be entered.
    Nowhere(io::ErrorKind),
}

impl Sockets {
    /// In the namespace of this file, which is opened once.
    pub fn of(network: Option<&str>) -> Result<Self, String> {
        let Some(path) = network else { return Ok(Self::Here) };
        let namespace = match std::fs::File::open(path) {
            Ok(file) => OwnedFd::from(file),
            Err(error) => return Ok(Self::Nowhere(error.kind())),
        };
        let (order, orders) = channel();
        spawn("sockets", move || make(&namespace, &orders))?;
        Ok(Self::There(order))
    }

    pub fn usable(&self) -> bool {
        match self {
            Self::Here | Self::There(_) => true,
            Self::Nowhere(_) => false,
        }
    }

    /// A connection to this address.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = match self {
            Self::Here => socket(family)?,
            Self::There(order) => {
                let (made, socket) = oneshot::channel();
                let gone = || io::Error::other("the thread that makes sockets has ended");
                order.send((family, made)).map_err(|_| gone())?;
                socket.await.map_err(|_| gone())??
            }
            Self::Nowhere(kind) => return Err((*kind).into()),
        };
        let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Goes there for good, and makes what is wanted until nobody wants anything.
fn make(namespace: &OwnedFd, orders: &Receiver<Order>) {
    let there = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
    for (family, made) in orders {
        // Whoever does not want it any more does not get it.
        let _ = made.send(there.map_err(io::Error::from).and_then(|()| socket(family)));
    }
}

fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from)
}

/// Whether no connection could be made because of this side: no descriptor, no memory, no port, no right.
pub fn own_fault(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    let own = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::AGAIN,
        Errno::PERM,
        Errno::ACCESS,
    ];
    errno.is_some_and(|errno| own.contains(&errno)) || error.kind() == io::ErrorKind::PermissionDenied
}
