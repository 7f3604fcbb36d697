//! Yielding between watchers, so that receivers run while a worker is still sending.
//!
//! A write that a hundred watch is a hundred records sealed and sent at a stretch. Where the watchers are on the same machine (the controller is), its
//! cores are then taken by those who send until the last one is sent, and the first who were told hear nothing of it for as long. So a thread that has told
//! so many gives its core to whoever waits for it. Where nobody does, that is one call of the system.

use std::{cell::Cell, thread};

/// With fewer, more time goes into changing places: 16 and 64 took a tenth longer until the one in the middle of a hundred had heard, none a third longer.
const AT_A_TIME: u32 = 32;

thread_local! {
    static TOLD: Cell<u32> = const { Cell::new(0) };
}

/// Counts an event that this thread tells.
pub(super) fn told() {
    let told = TOLD.get() + 1;
    TOLD.set(told % AT_A_TIME);
    if told == AT_A_TIME {
        thread::yield_now();
    }
}
