//! The new process's side of a takeover.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{DONE, END, Inherited, READY, SOCKET};

/// How long the old one may take for anything.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The one whose sockets these were; it goes on until [`Predecessor::retire`].
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// Takes the sockets of whoever listens at `path`. From now on it applies no updates. None: nobody does.
    ///
    /// # Errors
    /// When somebody does, but does not hand them over.
    pub fn meet(path: &Path) -> io::Result<Option<(Self, Inherited)>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
                _ => return Err(error),
            },
        };
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut sockets = Vec::new();
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut octet = [0];
            let vector = io::IoSliceMut::new(&mut octet);
            let received = recvmsg(&stream, &mut [vector], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    sockets.extend(rights);
                }
            }
            match (received.bytes, octet) {
                (1, [SOCKET]) => {}
                (1, [END]) => break,
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(Some((Self(stream), Inherited::of(sockets)?)))
    }

    /// Tells it that its sockets are answered from here: it ends. Blocks.
    ///
    /// # Errors
    /// When it does not say that it does: it has lost patience, and goes on.
    pub fn retire(mut self) -> io::Result<()> {
        self.0.write_all(&[READY])?;
        let mut octet = [0];
        self.0.read_exact(&mut octet)?;
        if octet == [DONE] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}
