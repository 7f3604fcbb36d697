//! Inherited sockets, by type and address.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{SocketType, sockopt};

/// Bound sockets that nobody has asked for yet.
#[derive(Debug, Default)]
pub struct Inherited {
    udp: Vec<(SocketAddr, UdpSocket)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
}

impl Inherited {
    /// Of these; what is no socket of the Internet's protocols is left out.
    ///
    /// # Errors
    /// When the kernel does not say what a socket is.
    pub fn of(sockets: Vec<OwnedFd>) -> io::Result<Self> {
        let mut inherited = Self::default();
        for socket in sockets {
            match sockopt::socket_type(&socket)? {
                SocketType::DGRAM => {
                    let socket = UdpSocket::from(socket);
                    if let Ok(address) = socket.local_addr() {
                        inherited.udp.push((address, socket));
                    }
                }
                SocketType::STREAM => {
                    let socket = TcpListener::from(socket);
                    if let Ok(address) = socket.local_addr() {
                        inherited.tcp.push((address, socket));
                    }
                }
                _ => {}
            }
        }
        Ok(inherited)
    }

    /// The UDP sockets at `address`.
    pub fn udp(&mut self, address: SocketAddr) -> Vec<UdpSocket> {
        self.udp.extract_if(.., |(at, _)| *at == address).map(|(_, socket)| socket).collect()
    }

    /// The TCP listener at `address`.
    pub fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|(at, _)| *at == address)?;
        Some(self.tcp.swap_remove(at).1)
    }

    /// Where those are that nobody has asked for: they end with this, and what waits in them is lost.
    pub fn left(&self) -> Vec<SocketAddr> {
        self.udp.iter().map(|(at, _)| *at).chain(self.tcp.iter().map(|(at, _)| *at)).collect()
    }
}
