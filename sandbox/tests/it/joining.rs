//! Joining, and being refused.

use crate::federation::{Federation, Member, Settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_and_a_token_that_was_used_are_refused_clearly() {
    let federation = Federation::start(Settings::default()).await;
    let token = federation.token().await;
    let first = Member::new("taiwan").await;
    let joined = federation.join("taiwan").await;
    let error = federation.refused(&first, &token).await;
    assert!(error.contains("\"taiwan\" is taken") && error.contains("fedctl unjoin taiwan"), "{error}");
    assert!(!joined.agent_ended());

    // The refused join did not use the token up.
    let other = Member::new("tokyo").await;
    let used = federation.join_with("tokyo", &token).await;
    let error = federation.refused(&other, &token).await;
    assert!(error.contains("token"), "{error}");
    assert!(!used.agent_ended());
    let error = federation.refused(&other, "aaaaaa.bbbbbbbbbbbbbbbb").await;
    assert!(error.contains("fedctl token create"), "{error}");
}
