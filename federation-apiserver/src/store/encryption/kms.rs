//! Keys in a key management service: a plugin behind a unix socket that speaks `k8s.io/kms` v2 (KEP-3299).
//!
//! The service never sees an object. It seals a seed, made here and kept in memory; each body has a key of its own, derived from the
//! seed and 32 random bytes beside it (HKDF-SHA256, RFC 5869), so that no key is used twice. When the service names another key, a new seed
//! is made, and what was sealed with the former key is written anew at the next start, as with keys in the file.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, Prk},
};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::{net::UnixStream, sync::mpsc, time::MissedTickBehavior};
use tonic::{
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::Unreadable;
use crate::store::{Key, record};

/// What a body begins with that is sealed so.
pub(super) const PREFIX: &[u8] = b"k8s:enc:kms:v2:";
/// How often the service is asked whether its key is still the same, as kube-apiserver asks.
const STATUS_EVERY: Duration = Duration::from_secs(60);
const SEED_LEN: usize = 32;
/// Random bytes beside each body.
const INFO_LEN: usize = 32;
/// Seeds that the service has opened and that are kept; each stands for one key of one run of this server.
const OPENED_MAX: usize = 4096;
/// `HKDF_SHA256_XNONCE_AES_GCM_SEED`
const SOURCE_TYPE: i32 = 1;

/// A sealed body (`k8s.io/apiserver/.../kmsv2/v2/api.proto`).
#[derive(Clone, PartialEq, Message)]
struct EncryptedObject {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    source: Vec<u8>,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
    #[prost(int32, tag = "5")]
    source_type: i32,
}

// `k8s.io/kms/apis/v2/api.proto`
#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
}

/// A seed, and the form in which the service knows it.
struct Source {
    seed: Vec<u8>,
    sealed: Vec<u8>,
    key_id: String,
    annotations: BTreeMap<String, Vec<u8>>,
}

/// The seed that seals now.
type Current = Arc<RwLock<Arc<Source>>>;

/// A sealed seed that somebody waits for.
struct Ask {
    request: DecryptRequest,
    reply: SyncSender<Result<Vec<u8>, String>>,
}

/// A provider. Its calls are made by a thread of its own, which ends with it: the store waits for an answer, never for a runtime.
pub(super) struct Kms {
    pub(super) name: String,
    timeout: Duration,
    current: Current,
    opened: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    asks: mpsc::UnboundedSender<Ask>,
}

impl Kms {
    /// Connects to the plugin behind a socket, and has a seed sealed. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When the plugin does not answer in `timeout`, or is not well.
    pub(super) fn start(name: String, socket: PathBuf, timeout: Duration) -> Result<Self, String> {
        let (asks, asked) = mpsc::unbounded_channel();
        let (first, started) = sync_channel(1);
        let thread = thread::Builder::new().name(format!("kms-{name}"));
        let worker = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(work(socket, timeout, &first, asked)),
                Err(error) => drop(first.send(Err(error.to_string()))),
            }
        };
        thread.spawn(worker).map_err(|error| error.to_string())?;
        let current = started.recv().unwrap_or_else(|_| Err("its thread has ended".to_owned()))?;
        Ok(Self { name, timeout, current, opened: Mutex::default(), asks })
    }

    /// A text as it goes to the disk.
    pub(super) fn seal(&self, key: &Key, text: &[u8]) -> Vec<u8> {
        let source = Arc::clone(&self.current.read());
        let info: [u8; INFO_LEN] = rand::random();
        let mut sealed = text.to_vec();
        let nonce = derive(&source.seed, &info)
            .seal_in_place_append_tag(Aad::from(record::key_prefix(key)), &mut sealed)
            .expect("an object is shorter than the 64 GiB that AES-GCM takes");
        let object = EncryptedObject {
            data: [info.as_slice(), nonce.as_ref(), &sealed].concat(),
            key_id: source.key_id.clone(),
            source: source.sealed.clone(),
            annotations: source.annotations.clone(),
            source_type: SOURCE_TYPE,
        };
        let mut out = [PREFIX, self.name.as_bytes(), b":"].concat();
        object.encode(&mut out).expect("a vector grows");
        out
    }

    /// A sealed text, without its prefix and name, as it was before.
    pub(super) fn open(&self, key: &Key, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let broken = || Unreadable::Broken(self.name.clone());
        let object = EncryptedObject::decode(body).map_err(|_| broken())?;
        let seed = self.seed_of(&object)?;
        if seed.len() != SEED_LEN || object.source_type != SOURCE_TYPE {
            return Err(broken());
        }
        let (info, rest) = object.data.split_first_chunk::<INFO_LEN>().ok_or_else(broken)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let mut text = text.to_vec();
        let aad = Aad::from(record::key_prefix(key));
        let opened = derive(&seed, info).open_in_place(Nonce::from(nonce), aad, &mut text);
        let length = opened.map_err(|_| broken())?.len();
        text.truncate(length);
        Ok(text)
    }

    /// Whether a sealed body, without its prefix and name, is of a key that the service has since turned.
    pub(super) fn is_stale(&self, body: &[u8]) -> bool {
        EncryptedObject::decode(body).map_or(true, |object| object.key_id != self.current.read().key_id)
    }

    /// The seed of a body: the service is asked once for each.
    fn seed_of(&self, object: &EncryptedObject) -> Result<Vec<u8>, Unreadable> {
        let current = Arc::clone(&self.current.read());
        if current.sealed == object.source {
            return Ok(current.seed.clone());
        }
        if let Some(seed) = self.opened.lock().get(&object.source) {
            return Ok(seed.clone());
        }
        let request = DecryptRequest {
            ciphertext: object.source.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        let (reply, answer) = sync_channel(1);
        let failed = |why: String| Unreadable::Service(self.name.clone(), why);
        self.asks.send(Ask { request, reply }).map_err(|_| failed("its thread has ended".to_owned()))?;
        let seed =
            answer.recv_timeout(self.timeout * 2).map_err(|_| failed("it does not answer".to_owned()))?;
        let seed = seed.map_err(failed)?;
        let mut opened = self.opened.lock();
        if opened.len() >= OPENED_MAX {
            opened.clear();
        }
        opened.insert(object.source.clone(), seed.clone());
        Ok(seed)
    }
}

fn derive(seed: &[u8], info: &[u8]) -> RandomizedNonceKey {
    let mut key = [0; 32];
    let info = [info];
    let expanded =
        Prk::new_less_safe(HKDF_SHA256, seed).expand(&info, &AES_256_GCM).and_then(|okm| okm.fill(&mut key));
    expanded.expect("HKDF makes up to 8,160 bytes");
    RandomizedNonceKey::new(&AES_256_GCM, &key).expect("AES-256 takes 32 bytes")
}

/// The plugin as it is called.
struct Plugin {
    grpc: Grpc<Channel>,
    timeout: Duration,
}

impl Plugin {
    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, String>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let work = async {
            self.grpc.ready().await.map_err(|error| error.to_string())?;
            let codec = ProstCodec::<Q, A>::default();
            let request = tonic::Request::new(request);
            let answer = self.grpc.unary(request, PathAndQuery::from_static(path), codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
        };
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| Err("it does not answer".to_owned()))
    }

    async fn status(&mut self) -> Result<StatusResponse, String> {
        let status: StatusResponse = self.call("/v2.KeyManagementService/Status", StatusRequest {}).await?;
        if status.healthz != "ok" {
            return Err(format!("it is not well: {:?}", status.healthz));
        }
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            return Err(format!("it speaks {:?}, not v2", status.version));
        }
        if status.key_id.is_empty() {
            return Err("it names no key".to_owned());
        }
        Ok(status)
    }

    /// Has a new seed sealed.
    async fn make(&mut self) -> Result<Source, String> {
        let seed: [u8; SEED_LEN] = rand::random();
        let request = EncryptRequest { plaintext: seed.to_vec(), uid: uuid::Uuid::new_v4().to_string() };
        let sealed: EncryptResponse = self.call("/v2.KeyManagementService/Encrypt", request).await?;
        if sealed.ciphertext.is_empty() || sealed.key_id.is_empty() {
            return Err("it sealed nothing, or named no key".to_owned());
        }
        Ok(Source {
            seed: seed.to_vec(),
            sealed: sealed.ciphertext,
            key_id: sealed.key_id,
            annotations: sealed.annotations,
        })
    }
}

async fn work(
    socket: PathBuf,
    timeout: Duration,
    first: &SyncSender<Result<Current, String>>,
    mut asked: mpsc::UnboundedReceiver<Ask>,
) {
    // The address is of no meaning: every connection goes to the socket.
    let channel = Endpoint::from_static("http://kms").connect_with_connector_lazy(tower::service_fn(
        move |_: http::Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        },
    ));
    let mut plugin = Plugin { grpc: Grpc::new(channel), timeout };
    let begun = match plugin.status().await {
        Ok(_) => plugin.make().await,
        Err(why) => Err(why),
    };
    let current = match begun {
        Ok(source) => Arc::new(RwLock::new(Arc::new(source))),
        Err(why) => return drop(first.send(Err(why))),
    };
    let _waited_for = first.send(Ok(Arc::clone(&current)));
    let mut status = tokio::time::interval(STATUS_EVERY);
    status.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ask = asked.recv() => {
                let Some(Ask { request, reply }) = ask else { return };
                let opened: Result<DecryptResponse, String> =
                    plugin.call("/v2.KeyManagementService/Decrypt", request).await;
                let _waited_for = reply.send(opened.map(|opened| opened.plaintext));
            }
            _ = status.tick() => {
                let turned = match plugin.status().await {
                    Ok(status) if status.key_id == current.read().key_id => continue,
                    Ok(_) => plugin.make().await,
                    Err(why) => Err(why),
                };
                match turned {
                    Ok(source) => *current.write() = Arc::new(source),
                    Err(why) => tracing::error!(%why, "a key management service fails; the last seed is used on"),
                }
            }
        }
    }
}
