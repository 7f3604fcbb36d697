//! The clock by which old states are forgotten.

use std::time::Duration;

use federation_runtime::shutdown::Shutdown;

use crate::store::Storage;

/// kube-apiserver's `--etcd-compaction-interval` if it is not told.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Tells the store of each interval that is over, until `shutdown`; never if the interval is zero.
pub(crate) async fn run(storage: Storage, interval: Duration, shutdown: Shutdown) {
    if interval.is_zero() {
        return;
    }
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(interval) => storage.compact(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::Options;

    #[tokio::test]
    async fn intervals_go_by_until_the_end_and_one_of_zero_never_begins() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(Options::new(folder.path())).await.unwrap();
        let shutdown = Shutdown::new();
        run(storage.clone(), Duration::ZERO, shutdown.child()).await;
        let begun = storage.interval();
        let clock = tokio::spawn(run(storage.clone(), Duration::from_millis(1), shutdown.child()));
        while !storage.is_over(begun) {
            tokio::task::yield_now().await;
        }
        shutdown.start();
        clock.await.unwrap();
    }
}
