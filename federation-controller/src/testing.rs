//! What this crate's tests share.

use std::time::Duration;

/// Waits until something is so; a test that waits for what never comes fails.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), met).await.expect("it becomes so within 20 s");
}
