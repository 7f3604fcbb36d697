//! How a cluster becomes a member, and what happens when it may not.

use std::error::Error as _;
use std::time::{Duration, Instant};

use federation_runtime::shutdown::Shutdown;
use hub_protocol::hub::Event;
use member_agent::identity::{Error, Membership};
use proto::v1::ClusterProfile;
use tokio::task::JoinHandle;

use crate::hub::Hub;

const TOKEN: &str = "abcdef.0123456789abcdef";

struct Place {
    hub: Hub,
    directory: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        federation_runtime::tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::start(&directory.path().join("pki"), TOKEN).await;
        Self { hub, directory }
    }

    async fn join(&self, name: &str, token: &str) -> Result<Membership, Error> {
        let identity = self.directory.path().join(name);
        let address = self.hub.address.to_string();
        Membership::join(&identity, &address, name, token, self.hub.pin, ClusterProfile::default()).await
    }

    fn half_joined(&self, name: &str) -> bool {
        self.directory.path().join(name).exists()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_once_and_the_identity_outlives_it() {
    let place = Place::new().await;
    let joined = place.join("taiwan", TOKEN).await.unwrap();
    assert_eq!(joined.peer().unwrap().agent(), Some("taiwan"));
    let again = Membership::load(&place.directory.path().join("taiwan"), "taiwan").unwrap().unwrap();
    assert_eq!(again.peer().unwrap(), joined.peer().unwrap());
    let Err(Error::Refused { code, .. }) = place.join("tokyo", TOKEN).await else {
        panic!("a used token joined")
    };
    assert_eq!(code, tonic::Code::Unauthenticated);
    assert!(!place.half_joined("tokyo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_ca_hash_sends_nothing_and_stores_nothing() {
    let place = Place::new().await;
    let wrong = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let identity = place.directory.path().join("taiwan");
    let address = place.hub.address.to_string();
    let joined =
        Membership::join(&identity, &address, "taiwan", TOKEN, wrong, ClusterProfile::default()).await;
    let Err(error @ Error::WrongCa { .. }) = joined else { panic!("{joined:?}") };
    assert!(error.to_string().contains(&place.hub.pin.to_string()), "{error}");
    assert!(!place.half_joined("taiwan"));
    // The token was not spent.
    place.join("taiwan", TOKEN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_told_and_leaves_nothing_behind() {
    let place = Place::new().await;
    let error = place.join("taken", TOKEN).await.unwrap_err();
    assert!(error.to_string().contains("--name"), "{error}");
    assert!(!place.half_joined("taken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_of_one_cluster_and_can_be_renewed() {
    let place = Place::new().await;
    let joined = place.join("taiwan", TOKEN).await.unwrap();
    let identity = place.directory.path().join("taiwan");
    assert!(matches!(Membership::load(&identity, "tokyo"), Err(Error::OtherCluster { .. })));
    let renewed = joined.renew(&identity, &place.hub.address.to_string()).await.unwrap();
    assert_ne!(renewed.identity.key_pem, joined.identity.key_pem);
    assert_eq!(
        Membership::load(&identity, "taiwan").unwrap().unwrap().identity.key_pem,
        renewed.identity.key_pem
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_not_there_is_named() {
    let place = Place::new().await;
    let pin = place.hub.pin;
    let joined = Membership::join(
        place.directory.path(),
        "127.0.0.1:1",
        "taiwan",
        TOKEN,
        pin,
        ClusterProfile::default(),
    )
    .await;
    let error = joined.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(error.source().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_takes_the_question_and_never_answers_is_not_waited_for() {
    let place = Place::new().await;
    let Err(error @ Error::Unreachable { .. }) = place.join("mute", TOKEN).await else {
        panic!("nobody answered")
    };
    assert!(error.to_string().contains(&place.hub.address.to_string()), "{error}");
    assert!(!place.half_joined("mute"));
}

/// Starts the agent of taiwan, whose API server is away.
async fn start(place: &Place) -> (Shutdown, JoinHandle<Result<(), member_agent::Error>>) {
    place.join("taiwan", TOKEN).await.unwrap();
    let data = place.directory.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::rename(place.directory.path().join("taiwan"), data.join("identity")).unwrap();
    let hub = place.hub.address.to_string();
    let options = crate::options(&["--name", "taiwan", "--hub", &hub, "--data-dir", data.to_str().unwrap()]);
    let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let shutdown = Shutdown::new();
    let agent = tokio::spawn(member_agent::Service::new(options).with_client(client).run(shutdown.clone()));
    place.hub.wait("Hello", |event| matches!(event, Event::Connected(_)).then_some(())).await;
    (shutdown, agent)
}

/// A member whose API server is away does not keep the agent from its hub.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_hello_and_that_its_api_server_is_away() {
    let place = Place::new().await;
    let (shutdown, agent) = start(&place).await;
    let message = place
        .hub
        .wait("a heartbeat with a reason", |event| match event {
            Event::Heartbeat(heartbeat) if !heartbeat.api_message.is_empty() => Some(heartbeat.clone()),
            _ => None,
        })
        .await;
    assert!(!message.api_ok);
    shutdown.start();
    agent.await.unwrap().unwrap();
}

/// The lease that is left lapses though nobody says anything any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_a_drill_cut_off_comes_back_though_the_hub_cannot_be_asked() {
    let place = Place::new().await;
    let (shutdown, agent) = start(&place).await;
    let cut = Instant::now();
    place.hub.session(|_, session| session.isolate("cut", 1500));
    place.hub.wait("Hello", |event| matches!(event, Event::Connected(_)).then_some(())).await;
    assert!(cut.elapsed() >= Duration::from_millis(1500), "it was away");
    shutdown.start();
    agent.await.unwrap().unwrap();
}
