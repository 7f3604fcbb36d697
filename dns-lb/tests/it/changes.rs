//! Changes in place of whole updates: what is served after them, and what is on disk whenever the machine goes down.

use std::sync::Arc;
use std::time::Duration;

use dns_lb::testing::hub::{Disk, DiskError, Fence, Offer, Refused};
use dns_lb::testing::metrics::Transport;
use dns_lb::testing::state::{Applied, State};
use dns_lb::testing::zone::Zones;
use federation_runtime::endpoints::Health;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use hub_protocol::zones;
use proto::v1;

use crate::support::{ask, fixed, query, records, update};

const WEB: &str = "web.default.fed.example.test.";

fn state(disk: Option<Disk>) -> State {
    let state = State::new(Arc::default(), Health::new(), disk, Fence::default(), Duration::MAX);
    state.load().unwrap();
    state
}

/// The update of `epoch`, in which a name has an address of this epoch.
fn of(epoch: u64) -> v1::ZoneUpdate {
    let mut update = update(epoch, records());
    update.zones[0].records.push(fixed("new.fed.example.test.", "A", &[&format!("10.0.0.{epoch}")]));
    update
}

fn change(from: u64, to: u64) -> v1::ZoneUpdate {
    zones::change(&of(from), &of(to)).unwrap()
}

fn address(state: &State, name: &str) -> String {
    let asked = query(name, RecordType::A).to_vec().unwrap();
    let answer = ask(&state.published().snapshot(), &asked, Transport::Udp, 1).unwrap();
    Message::from_vec(&answer)
        .unwrap()
        .answers
        .first()
        .map(|record| record.data.to_string())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_change_of_what_is_served_is_served_and_any_other_asks_for_everything() {
    let state = state(None);
    assert_eq!(state.offer(change(1, 2)).await, Applied::Resync, "nothing is served yet");
    assert_eq!(state.offer(of(5)).await, Applied::Served { epoch: 5 });
    assert_eq!(state.offer(change(5, 6)).await, Applied::Served { epoch: 6 });
    assert_eq!(address(&state, "new.fed.example.test."), "10.0.0.6");
    assert!(!address(&state, WEB).is_empty(), "what did not change is served on");
    // From an earlier base too, as long as it leads to a newer epoch.
    assert_eq!(state.offer(change(5, 7)).await, Applied::Served { epoch: 7 });
    assert_eq!(state.offer(change(6, 7)).await, Applied::Served { epoch: 7 }, "again");
    assert_eq!(state.offer(change(8, 9)).await, Applied::Resync, "of an epoch that never came");
    assert_eq!(state.offer(change(5, 6)).await, Applied::Refused, "older");
    let foreign = v1::ZoneUpdate { incarnation: "store-2".into(), ..change(7, 8) };
    assert_eq!(state.offer(foreign).await, Applied::Resync, "of another store");
    assert_eq!((state.served().0, address(&state, "new.fed.example.test.").as_str()), (7, "10.0.0.7"));
}

#[test]
fn a_change_is_validated_as_a_whole_update_is() {
    let served = Zones::from_update(&of(5)).unwrap();
    let judge = |change: v1::ZoneUpdate| Fence::default().judge(Some(&served), || None, change);
    let with = |records: Vec<v1::RecordSet>| {
        let mut change = change(5, 6);
        change.zones[0].records = records;
        change
    };
    let problem = |change| match judge(change) {
        Offer::Refuse(Refused::Invalid(problems)) => problems.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(problem(with(vec![fixed(WEB, "CNAME", &["a.test."])])).contains("CNAME must be the only"));
    assert!(problem(with(vec![fixed(WEB, "DS", &["1 13 9 00"])])).contains("DS records are allowed only"));
    assert!(problem(with(vec![fixed("web.elsewhere.", "A", &["10.0.0.1"])])).contains("is not within"));
    let twice = fixed(WEB, "A", &["10.0.0.1"]);
    assert!(problem(with(vec![twice.clone(), twice])).contains("is there twice"));
    // What all sets depend on is not a change.
    let mut slower = change(5, 6);
    slower.zones[0].default_ttl = 99;
    assert_eq!(judge(slower), Offer::Resync);
    // Nor is taking everything away, unless that is meant.
    let mut emptied = change(5, 6);
    let all = of(5).zones.remove(0).records;
    emptied.zones[0].records = Vec::new();
    emptied.zones[0].gone =
        all.into_iter().map(|set| v1::Gone { name: set.name, kind: set.r#type }).collect();
    assert_eq!(judge(emptied.clone()), Offer::Resync);
    emptied.withdrawn = vec!["fed.example.test.".into()];
    let Offer::Apply { zones, .. } = judge(emptied) else { panic!("not applied") };
    assert_eq!(zones.zones[0].set_count(), 0);
    let apex = &zones.zones[0].names[&zones.zones[0].origin];
    assert_eq!(
        apex.kinds().collect::<Vec<_>>(),
        [dns_lb::testing::wire::Type::NS],
        "a zone always has servers"
    );
}

#[tokio::test]
async fn a_held_zone_is_no_base_of_changes_not_even_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let first = state(Some(Disk::new(directory.path())));
    assert_eq!(first.offer(of(5)).await, Applied::Served { epoch: 5 });
    assert_eq!(first.base().0, 5);
    assert_eq!(first.offer(update(6, Vec::new())).await, Applied::Partly);
    for state in [first, state(Some(Disk::new(directory.path())))] {
        assert_eq!((state.served().0, state.base().0), (6, 0));
        assert_eq!(state.offer(change(6, 7)).await, Applied::Resync);
        assert_eq!(
            state.offer(update(6, Vec::new())).await,
            Applied::Partly,
            "the hub's zones are not served"
        );
        assert!(!address(&state, WEB).is_empty());
    }
}

#[tokio::test]
async fn changes_outlive_a_restart_and_a_torn_one_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zones.changes");
    let served = state(Some(Disk::new(directory.path())));
    served.offer(of(1)).await;
    let mut ends = vec![0];
    for epoch in 2..5 {
        assert_eq!(served.offer(change(epoch - 1, epoch)).await, Applied::Served { epoch });
        ends.push(std::fs::metadata(&file).unwrap().len());
    }
    assert_eq!(Disk::new(directory.path()).load().unwrap(), Some(of(4)));
    // The machine goes down while a change is written: it may end anywhere.
    let whole = std::fs::read(&file).unwrap();
    for end in 0..=whole.len() {
        std::fs::write(&file, &whole[..end]).unwrap();
        let epoch = ends.iter().filter(|&&whole| whole <= end as u64).count() as u64;
        let disk = Disk::new(directory.path());
        assert_eq!(disk.load().unwrap().unwrap().epoch, epoch, "cut at {end}");
        // What follows is kept behind what was whole.
        disk.store(&change(epoch, 9)).unwrap();
        assert_eq!(disk.load().unwrap(), Some(of(9)), "cut at {end}");
    }
    // Octets that are there but not yet those that were written, at the end, are a torn change too; before the end they are damage.
    let mut torn = whole.clone();
    *torn.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &torn).unwrap();
    assert_eq!(Disk::new(directory.path()).load().unwrap().unwrap().epoch, 3);
    torn[ends[1] as usize - 1] ^= 1;
    std::fs::write(&file, &torn).unwrap();
    assert!(matches!(Disk::new(directory.path()).load(), Err(DiskError::Damaged { path }) if path == file));
    // It goes down between writing the whole and forgetting the changes: they do not fit it.
    std::fs::remove_file(&file).unwrap();
    Disk::new(directory.path()).store(&of(9)).unwrap();
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(Disk::new(directory.path()).load().unwrap(), Some(of(9)));
}

#[tokio::test]
async fn what_a_full_disk_did_not_take_is_written_when_it_takes_something_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zones.changes");
    let restarted = || state(Some(Disk::new(directory.path())));
    let served = restarted();
    assert_eq!(served.offer(of(1)).await, Applied::Served { epoch: 1 });
    // Users come first: it is answered though it is not kept.
    std::fs::create_dir(&file).unwrap();
    for epoch in [2, 3] {
        assert_eq!(served.offer(change(epoch - 1, epoch)).await, Applied::Served { epoch });
        assert!(!served.is_kept(), "a successor would answer older zones");
    }
    std::fs::remove_dir(&file).unwrap();
    assert_eq!(served.offer(change(3, 4)).await, Applied::Served { epoch: 4 });
    assert!(served.is_kept());
    let after = restarted();
    assert_eq!((after.served().0, address(&after, "new.fed.example.test.").as_str()), (4, "10.0.0.4"));
    // For longer than is remembered: then it is known that the disk is behind, until everything is sent anew.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let disk = Disk::new(directory.path());
    let text = format!("\"{}\"", "x".repeat(200));
    let long: Vec<&str> = (0..100).map(|_| text.as_str()).collect();
    for epoch in 5..70 {
        let mut change = change(epoch - 1, epoch);
        change.zones[0].records.push(fixed("long.fed.example.test.", "TXT", &long));
        assert!(disk.store(&change).is_err());
    }
    std::fs::remove_dir(&file).unwrap();
    assert!(matches!(disk.store(&change(69, 70)), Err(DiskError::Behind { .. })));
    disk.store(&of(70)).unwrap();
    disk.store(&change(70, 71)).unwrap();
    assert_eq!(restarted().served().0, 71);
}

#[tokio::test]
async fn everything_is_asked_for_where_a_disk_was_full_for_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zones.changes");
    let served = state(Some(Disk::new(directory.path())));
    assert_eq!(served.offer(of(1)).await, Applied::Served { epoch: 1 });
    std::fs::create_dir(&file).unwrap();
    let text = format!("\"{}\"", "x".repeat(200));
    let long: Vec<&str> = (0..100).map(|_| text.as_str()).collect();
    let mut epoch = 1;
    loop {
        let mut change = change(epoch, epoch + 1);
        change.zones[0].records.push(fixed("long.fed.example.test.", "TXT", &long));
        match served.offer(change).await {
            Applied::Resync => break,
            applied => assert_eq!(applied, Applied::Served { epoch: epoch + 1 }),
        }
        epoch += 1;
        assert!(epoch < 100, "nothing is asked for");
    }
    assert_eq!(served.base().0, 0, "nor is a change, when the hub is back");
    // Not each time: the disk may be full for long, and users are answered.
    assert_eq!(served.offer(change(epoch, epoch + 1)).await, Applied::Served { epoch: epoch + 1 });
    assert!(!served.is_kept());
    std::fs::remove_dir(&file).unwrap();
    // What is served already is kept, too.
    let current = v1::ZoneUpdate { epoch: epoch + 1, ..of(1) };
    assert_eq!(served.offer(current).await, Applied::Served { epoch: epoch + 1 });
    assert!(served.is_kept());
    assert_eq!(served.base().0, epoch + 1);
    assert_eq!(state(Some(Disk::new(directory.path()))).served().0, epoch + 1);
}

#[tokio::test]
async fn serials_do_not_go_back_with_the_clock_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let started = || state(Some(Disk::new(directory.path())));
    let serial = |state: &State| state.published().snapshot().zones.zones[0].serial;
    let first = started();
    first.set_ahead(30 * 86_400);
    assert_eq!(first.offer(of(1)).await, Applied::Served { epoch: 1 });
    let ahead = serial(&first);
    let after = started();
    assert!(serial(&after) >= ahead, "{} after {ahead}", serial(&after));
}

#[test]
fn changes_do_not_pile_up_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    disk.store(&of(1)).unwrap();
    let long = format!("\"{}\"", "x".repeat(250));
    let mut largest = 0;
    for epoch in 2..700 {
        let mut change = change(epoch - 1, epoch);
        change.zones[0].records = (0..10)
            .map(|n| {
                fixed(
                    &format!("n{n}.fed.example.test."),
                    "TXT",
                    &[long.replacen('x', &format!("{epoch:04}"), 4).as_str()],
                )
            })
            .collect();
        disk.store(&change).unwrap();
        largest = largest
            .max(std::fs::metadata(directory.path().join("zones.changes")).map_or(0, |file| file.len()));
    }
    assert!((1 << 19..3 << 19).contains(&largest), "{largest}");
    assert_eq!(Disk::new(directory.path()).load().unwrap().unwrap().epoch, 699);
}
