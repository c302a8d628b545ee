//! For tests: a real listener on the loopback address, a signer, and small snapshots.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::outbound::{Outbound, OutboundPolicy};
use crate::domain::build::build;
use crate::domain::objects::{Object, ObjectKind, ObjectRef, Spec};
use crate::domain::snapshot::Snapshot;
use crate::keys::signing::{KeySpec, SigningKey};

/// This server's own `iss` in tests.
pub(super) const OWN: &str = "https://taskgrant.example";

/// An answer, byte by byte.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) delay: Duration,
}

impl Reply {
    pub(super) fn new(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
        Self { bytes: (head + body).into_bytes(), delay: Duration::ZERO }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::new(200, "content-type: application/json\r\n", &body.to_string())
    }

    pub(super) fn keys(signers: &[&Signer]) -> Self {
        Self::json(&json!({"keys": signers.iter().map(|s| s.jwk()).collect::<Vec<_>>()}))
    }

    pub(super) fn slow(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// A web server on the loopback address that counts what reaches it. Unknown paths answer 404.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    state: Arc<SiteState>,
}

#[derive(Default)]
struct SiteState {
    replies: Mutex<HashMap<String, Reply>>,
    hits: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

impl Site {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(SiteState::default());
        let served = state.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                served.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        Self { address, state }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn set(&self, path: &str, reply: Reply) {
        self.state.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    /// How often `path` was asked for.
    pub(super) fn hits(&self, path: &str) -> usize {
        self.state.hits.lock().unwrap().iter().filter(|p| *p == path).count()
    }

    pub(super) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, state: Arc<SiteState>) {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let Ok(read @ 1..) = stream.read(&mut piece).await else { return };
        request.extend_from_slice(&piece[..read]);
        if !request[0].is_ascii_alphabetic() {
            return; // TLS: hang up, so that the client does not wait.
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    state.hits.lock().unwrap().push(path.clone());
    let reply = state.replies.lock().unwrap().get(&path).cloned();
    let reply = reply.unwrap_or_else(|| Reply::new(404, "", ""));
    tokio::time::sleep(reply.delay).await;
    stream.write_all(&reply.bytes).await.ok();
    stream.shutdown().await.ok();
}

/// The client of `dev`: loopback by plain http is fine.
pub(super) fn dev_client() -> Outbound {
    Outbound::new(OutboundPolicy { allow_private: Vec::new(), allow_http_loopback: true }).unwrap()
}

/// A key that signs what a test wants signed.
pub(super) struct Signer(SigningKey);

impl Signer {
    pub(super) fn new() -> Self {
        Self::of(KeySpec::Es256)
    }

    pub(super) fn of(spec: KeySpec) -> Self {
        Self(SigningKey::generate(spec, &SystemRandom::new()).unwrap().0)
    }

    pub(super) fn jwk(&self) -> Value {
        serde_json::to_value(self.0.public().jwk()).unwrap()
    }

    /// A token with this header `typ`; without one if none.
    pub(super) fn sign(&self, typ: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"alg": self.0.algorithm().name(), "kid": self.0.kid()});
        if let Some(typ) = typ {
            header["typ"] = json!(typ);
        }
        self.sign_with(&header, claims)
    }

    pub(super) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(header), part(claims));
        let signature = self.0.sign(input.as_bytes(), &SystemRandom::new()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// `base` with the members of `patch` in their place; a `null` there takes the member away.
pub(super) fn bend(mut base: Value, patch: &Value) -> Value {
    let members: &mut Map<String, Value> = base.as_object_mut().unwrap();
    for (name, value) in patch.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    base
}

/// One object: (kind, tenant, name, spec).
pub(super) type Declared<'a> = (ObjectKind, &'a str, &'a str, Value);

/// The snapshot of the tenants `acme` and `other` and of `declared`.
pub(super) fn snapshot(declared: &[Declared<'_>]) -> Snapshot {
    let tenants = ["acme", "other"].map(|name| (ObjectKind::Tenant, name, name, json!({})));
    let objects: Vec<Object> = tenants
        .iter()
        .chain(declared)
        .map(|(kind, tenant, name, spec)| Object {
            id: ObjectRef { kind: *kind, tenant: tenant.parse().unwrap(), name: name.parse().unwrap() },
            version: 1,
            spec: Spec::from_json(*kind, spec.to_string().as_bytes()).unwrap(),
        })
        .collect();
    build(&objects, &[], OWN).unwrap()
}
