//! The old process's side of a takeover.

use std::fs;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};
use tokio::net::UnixListener;

use super::{DONE, END, READY, SOCKET};
use crate::state::State;

/// How long a new one may take from the sockets until it answers: it reads the zones on disk, and may have to sign them.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for a successor, and hands the sockets over to it.
#[derive(Debug)]
pub struct SuccessorListener {
    listener: UnixListener,
    owner: u32,
    sockets: Arc<[OwnedFd]>,
}

impl SuccessorListener {
    /// Listens at `path`, to hand over copies of `sockets`. Whoever listened there before must have ended, or be about to. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// When it cannot be listened there.
    pub fn bind(path: &Path, sockets: Vec<OwnedFd>) -> io::Result<Self> {
        // Under another name first, so that nobody may connect before the permissions are right, and nobody finds none.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let _ = fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        let owner = fs::metadata(&fresh)?.uid();
        fs::rename(&fresh, path)?;
        Ok(Self { listener, owner, sockets: sockets.into() })
    }

    /// Waits until a successor answers. `state` applies no updates from when it has the sockets; if it fails, goes on. None gets them while the
    /// disk is behind what is answered.
    pub async fn succeeded(&self, state: &State) {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let paused = state.pause_updates().await;
            if !state.is_kept() {
                tracing::error!(
                    "a successor would answer older zones, for the last could not be written: it gets no sockets"
                );
                continue;
            }
            let (sockets, owner) = (self.sockets.clone(), self.owner);
            let handed = stream
                .into_std()
                .map(|stream| tokio::task::spawn_blocking(move || hand_over(stream, owner, &sockets)));
            match handed {
                Ok(handed) => match handed.await {
                    Ok(Ok(())) => {
                        // For ever: the zones are the successor's now.
                        std::mem::forget(paused);
                        return;
                    }
                    Ok(Err(error)) => tracing::error!(%error, "a successor did not come so far as to answer"),
                    Err(error) => tracing::error!(%error, "a successor was not served"),
                },
                Err(error) => tracing::error!(%error, "a successor was not served"),
            }
            drop(paused);
        }
    }
}

fn hand_over(mut stream: UnixStream, owner: u32, sockets: &[OwnedFd]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let peer = sockopt::socket_peercred(&stream)?.uid.as_raw();
    if peer != owner && peer != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    for socket in sockets {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = [socket.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&rights)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        sendmsg(&stream, &[io::IoSlice::new(&[SOCKET])], &mut control, SendFlags::NOSIGNAL)?;
    }
    stream.write_all(&[END])?;
    let mut octet = [0];
    stream.read_exact(&mut octet)?;
    if octet != [READY] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // If it is gone already it is told to nobody, and we go on.
    stream.write_all(&[DONE])
}
