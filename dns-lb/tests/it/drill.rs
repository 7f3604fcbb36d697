//! A drill of a hub that goes away in the middle of it.

use std::time::Duration;

use crate::support::{Running, options, records, update};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drill_took_is_given_back_once_its_hub_is_away() {
    let data = tempfile::tempdir().unwrap();
    let options = || dns_lb::Options { data_dir: Some(data.path().into()), ..options() };
    let drill = |epoch| {
        let otherwise = Some(Box::new(update(epoch + 1, records())));
        proto::v1::ZoneUpdate { otherwise, lease_ms: 100, ..update(epoch, records()) }
    };
    let server = Running::start(options()).await;
    server.state.connected();
    server.state.offer(drill(7)).await;
    assert_eq!(server.state.served().0, 7);
    server.state.disconnected();
    tokio::time::timeout(PATIENCE, async {
        while server.state.served().0 != 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the hub was away for its lease");

    // A server that starts in the middle of a drill is none of it.
    server.state.connected();
    server.state.offer(drill(9)).await;
    assert_eq!(server.state.served().0, 9);
    server.stop().await;
    let server = Running::start(options()).await;
    assert_eq!(server.state.served().0, 10);
    // A zone that would become empty is held, in the drill and on disk.
    let emptied =
        proto::v1::ZoneUpdate { otherwise: Some(Box::new(update(12, Vec::new()))), ..update(11, Vec::new()) };
    server.state.offer(emptied).await;
    server.stop().await;
    let server = Running::start(options()).await;
    assert_eq!(server.state.served().0, 12);
    assert_eq!(server.state.published().snapshot().zones.zones[0].set_count(), records().len());
    server.stop().await;
}
