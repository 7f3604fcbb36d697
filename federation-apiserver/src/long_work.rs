//! Work that takes long without waiting for anything.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task,
};

/// Does what may take more than a few milliseconds. All other tasks of this thread go to another one meanwhile, if the runtime has others; and if
/// it was this thread that watched the sockets, another one does.
pub(crate) fn apart<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => task::block_in_place(work),
        _ => work(),
    }
}
