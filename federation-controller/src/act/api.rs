//! The federation's API for writers: a request and its response, over a client or in a simulation.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::tasks;
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An API without a connection: a simulation's.
pub trait Direct: Send + Sync {
    /// Answers a request. `None`: it is never answered, whether it was carried out or not.
    fn answer(&self, request: http::Request<Vec<u8>>) -> Option<Result<Value, kube::Error>>;

    /// How long the next request is on its way there, and its answer on the way back.
    fn delays(&self) -> (Duration, Duration);
}

/// Cheap to clone.
#[derive(Clone)]
pub enum Api {
    /// Of this process or another.
    Client(Client),
    /// See [`Direct`].
    Direct(Arc<dyn Direct>),
}

impl Api {
    /// Sends a request; reads of the answer what is used.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        request: http::Request<Vec<u8>>,
    ) -> Result<T, kube::Error> {
        match self {
            Self::Client(client) => client.request(request).await,
            Self::Direct(direct) => {
                let (there, back) = direct.delays();
                tasks::sleep(there).await;
                let answer = direct.answer(request);
                tasks::sleep(back).await;
                match answer {
                    Some(answer) => answer
                        .and_then(|answer| serde_json::from_value(answer).map_err(kube::Error::SerdeError)),
                    None => pending().await,
                }
            }
        }
    }

    /// The object at a path, if it is there.
    pub(crate) async fn read(&self, path: &str) -> Result<Option<Value>, kube::Error> {
        let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        match self.send(request).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an object in a collection (`POST`), or puts it where one is already (`PUT`: the resourceVersion in it is the precondition).
    pub(crate) async fn write(&self, method: &str, path: &str, object: &Value) -> Result<Value, kube::Error> {
        self.say(method, path, "application/json", object).await
    }

    /// Changes some fields of an object: RFC 7396.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Result<Value, kube::Error> {
        self.say("PATCH", path, "application/merge-patch+json", patch).await
    }

    async fn say(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        object: &Value,
    ) -> Result<Value, kube::Error> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(object.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.send(request).await
    }
}
