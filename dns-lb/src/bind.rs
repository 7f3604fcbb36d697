//! The sockets of `--listen`: bound here, or inherited from another process.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use tokio::net::TcpListener;

use crate::takeover::{Inherited, Predecessor, of_environment};
use crate::{Error, Options, transport, udp};

/// Tries to find a port that is free for UDP and TCP, where the port is left to the kernel.
const PORT_TRIES: usize = 16;

/// The predecessor, if there is one, and the sockets that somebody has bound for us.
pub(crate) fn inherit(options: &Options) -> Result<(Option<Predecessor>, Inherited), Error> {
    if let Some(path) = &options.takeover {
        let met = Predecessor::meet(path).map_err(|source| Error::Takeover { path: path.clone(), source })?;
        if let Some((predecessor, inherited)) = met {
            return Ok((Some(predecessor), inherited));
        }
    }
    Ok((None, of_environment().map_err(Error::Environment)?))
}

/// The listener and the UDP sockets of one address; with port 0 the kernel chooses one that is free for both.
pub(crate) fn bind_both(
    address: SocketAddr,
    threads: usize,
    inherited: &mut Inherited,
) -> Result<(TcpListener, SocketAddr, Vec<UdpSocket>), Error> {
    let failed = |transport| move |source| Error::Bind { address, transport, source };
    let listener = inherited.tcp(address).map(transport::adopt).transpose().map_err(failed("TCP"))?;
    let found = inherited.udp(address);
    if listener.is_some() || !found.is_empty() {
        let listener = listener.map_or_else(|| transport::bind(address, false), Ok).map_err(failed("TCP"))?;
        let sockets: io::Result<Vec<UdpSocket>> = if found.is_empty() {
            (0..threads).map(|_| udp::bind(address)).collect()
        } else {
            // All of them, whatever the number of threads: each has a queue. Threads beyond share.
            let all = found.len().max(threads);
            let shared = found.iter().cycle().take(all).map(UdpSocket::try_clone);
            shared.map(|socket| udp::adopt(socket?, address)).collect()
        };
        return Ok((listener, address, sockets.map_err(failed("UDP"))?));
    }
    let mut tries = 0;
    loop {
        let listener = transport::bind(address, false).map_err(failed("TCP"))?;
        let bound = listener.local_addr().map_err(failed("TCP"))?;
        let sockets: io::Result<Vec<UdpSocket>> = (0..threads).map(|_| udp::bind(bound)).collect();
        tries += 1;
        match sockets {
            Ok(sockets) => return Ok((listener, bound, sockets)),
            // The kernel chose a port that is free for TCP only.
            Err(_) if address.port() == 0 && tries < PORT_TRIES => {}
            Err(source) => return Err(failed("UDP")(source)),
        }
    }
}
