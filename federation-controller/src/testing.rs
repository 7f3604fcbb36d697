//! A controller for this crate's tests: put together, with nothing of it running yet; what it writes is kept in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use federation_prober::Probing;
use hub_protocol::hub::Config;
use kube::core::Status;
use parking_lot::Mutex;
use serde_json::Value;

use crate::act::api::{Api, Direct};
use crate::machine::{Machine, Setup};
use crate::traffic::Keeping;

/// Objects by path.
#[derive(Default)]
struct Kept(Mutex<HashMap<String, Value>>);

impl Direct for Kept {
    fn answer(&self, request: http::Request<Vec<u8>>) -> Option<Result<Value, kube::Error>> {
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let path = request.uri().path().to_owned();
        let mut kept = self.0.lock();
        let answer = match request.method().as_str() {
            "GET" => kept.get(&path).cloned(),
            "POST" => {
                let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                kept.insert(format!("{path}/{name}"), body.clone());
                Some(body)
            }
            "PUT" => {
                kept.insert(path, body.clone());
                Some(body)
            }
            _ => Some(body),
        };
        let absent = || Status { code: 404, message: "it is not there".into(), ..Status::default() };
        Some(answer.ok_or_else(|| kube::Error::Api(Box::new(absent()))))
    }

    fn delays(&self) -> (Duration, Duration) {
        (Duration::ZERO, Duration::ZERO)
    }
}

/// Waits until something is so; a test that waits for what never comes fails.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), met).await.expect("it becomes so within 20 s");
}

/// A controller that knows of nothing yet.
pub(crate) async fn machine() -> Machine {
    let (api, kept) = (Api::Direct(Arc::new(Kept::default())), Keeping::Memory(Arc::default()));
    let config = Config { incarnation: "store".into(), ..Config::default() };
    let setup = Setup::unwatched(api, config, "fed.example.test", kept, Probing::still(1));
    Machine::new(setup).await.expect("epochs are kept in memory")
}
