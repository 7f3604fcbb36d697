//! systemd's way: sockets that are open when the process starts (sd_listen_fds(3)).

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use super::Inherited;

/// The first of them.
const FIRST: RawFd = 3;
/// More than anybody has.
const MOST: RawFd = 1024;

/// What LISTEN_FDS says, if LISTEN_PID says that it is for this process. Copies are taken: the sockets themselves stay open, which costs
/// nothing, and may be asked for again.
///
/// # Errors
/// When what it says is not so.
pub fn of_environment() -> io::Result<Inherited> {
    let number = |name| std::env::var(name).ok()?.parse::<RawFd>().ok();
    let own = number("LISTEN_PID").is_some_and(|process| i64::from(process) == i64::from(std::process::id()));
    let count = number("LISTEN_FDS").filter(|_| own).unwrap_or(0).clamp(0, MOST);
    let sockets = (FIRST..FIRST + count).map(copy).collect::<io::Result<_>>()?;
    Inherited::of(sockets)
}

#[allow(unsafe_code)]
fn copy(number: RawFd) -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: the descriptor is only borrowed for this call, which fails if it is not open; by LISTEN_PID it was opened for us before we
    // started, and nothing here closes descriptors that it did not open.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    socket.try_clone_to_owned()
}
