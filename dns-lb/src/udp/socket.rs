//! Sockets that share one address.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// How long an idle thread waits before it looks whether it should end.
const WAKE: Duration = Duration::from_millis(200);
/// Asked of the kernel, which may give less: 4 MiB are some 5,000 small queries with their bookkeeping, 20 ms at 250,000 a second.
const BUFFER: usize = 4 << 20;

/// Whether `address` stands for all of the host's addresses: then answers must name the one that was asked.
pub fn is_wildcard(address: SocketAddr) -> bool {
    address.ip().is_unspecified()
}

/// One of the sockets of `address`. The kernel spreads clients over all of them (SO_REUSEPORT).
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let socket = ready(socket, address)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket that somebody else has bound to `address`, ready to be received from.
pub fn adopt(socket: UdpSocket, address: SocketAddr) -> io::Result<UdpSocket> {
    socket.set_nonblocking(false)?;
    ready(socket.into(), address).map(UdpSocket::from)
}

fn ready(socket: Socket, address: SocketAddr) -> io::Result<Socket> {
    // Best effort: the kernel's default is merely less patient with bursts.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    let _ = super::mmsg::keep_whole(&socket, address.is_ipv6());
    if is_wildcard(address) {
        super::mmsg::receive_destination(&socket, address.is_ipv6())?;
    }
    socket.set_read_timeout(Some(WAKE))?;
    Ok(socket)
}
