//! Certificates made on the spot, a server that asks for them, and clients that show any of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, generate_simple_self_signed,
};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey as ClientKey;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::server::{Answer, Server, encode};

/// Somebody who signs certificates.
pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

/// The parameters of an authority's certificate.
pub(crate) fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(crate) fn authority(name: &str) -> Authority {
    Authority::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
}

/// The parameters of a client's certificate: for client authentication, without any name.
pub(crate) fn client_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// What a client shows in a handshake: certificates, its own first, and what it signs with.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Arc<KeyPair>,
}

impl Credential {
    /// A certificate of `by`, with `bend` applied to good parameters.
    pub(crate) fn issued(by: &Authority, bend: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (client_params(), KeyPair::generate().unwrap());
        bend(&mut params);
        let cert = params.signed_by(&key, by).unwrap();
        Self { chain: vec![cert.der().clone()], key: Arc::new(key) }
    }

    /// A certificate that vouches for itself, and is no authority's.
    pub(crate) fn self_signed(bend: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (client_params(), KeyPair::generate().unwrap());
        bend(&mut params);
        let cert = params.self_signed(&key).unwrap();
        Self { chain: vec![cert.der().clone()], key: Arc::new(key) }
    }

    fn signing(&self) -> Arc<ClientKey> {
        let der = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let key = ring::default_provider().key_provider.load_private_key(der).unwrap();
        Arc::new(ClientKey::new(self.chain.clone(), key))
    }
}

/// Shows a certificate whether it could be one or not.
#[derive(Debug)]
struct Always(Mutex<Arc<ClientKey>>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<ClientKey>> {
        Some(self.0.lock().unwrap().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A server over TLS, and its certificate.
pub(crate) struct Secured {
    pub(crate) server: Server,
    certificate: CertificateDer<'static>,
}

impl Secured {
    /// A server that asks for certificates, with more lines in its TOML before the first section.
    pub(crate) async fn start(toml: &str, tls: &str) -> Self {
        let data = Arc::new(tempfile::tempdir().unwrap());
        let certificate = certify(&data);
        let files = data.path().display();
        let toml = format!("{toml}\n[tls]\ncert = '{files}/cert.pem'\nkey = '{files}/key.pem'\n{tls}");
        Self { server: Server::start_tls(data, &toml).await, certificate }
    }

    /// A client that shows `credential`, if any.
    pub(crate) fn client(&self, credential: Option<&Credential>) -> Client {
        self.client_by(credential, rustls::DEFAULT_VERSIONS)
    }

    /// The same with these versions of TLS only.
    pub(crate) fn client_by(
        &self,
        credential: Option<&Credential>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let shown = credential.map(|shown| Arc::new(Always(Mutex::new(shown.signing()))));
        let config = match &shown {
            Some(shown) => builder.with_client_cert_resolver(shown.clone()),
            None => builder.with_no_client_auth(),
        };
        let address = self.server.issuer.trim_start_matches("https://").to_owned();
        Client { config, shown, address }
    }
}

/// Writes a certificate for loopback and its key.
fn certify(folder: &TempDir) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = folder.path().join("key.pem");
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
    cert.der().clone()
}

/// A client; each request is a connection of its own.
pub(crate) struct Client {
    config: ClientConfig,
    shown: Option<Arc<Always>>,
    address: String,
}

impl Client {
    /// Shows another certificate from now on, and keeps its sessions, which an honest client would begin anew.
    pub(crate) fn changes(&self, credential: &Credential) {
        *self.shown.as_ref().unwrap().0.lock().unwrap() = credential.signing();
    }

    /// The same with a memory of sessions of its own.
    pub(crate) fn remembering(mut self) -> Self {
        self.config.resumption = Resumption::in_memory_sessions(8);
        self
    }

    /// Posts a form.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Answer {
        self.try_post(path, headers, form).await.expect("a handshake and an answer").1
    }

    /// The same, and how hands were shaken; an error where they were not.
    pub(crate) async fn try_post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        form: &[(&str, &str)],
    ) -> std::io::Result<(HandshakeKind, Answer)> {
        let stream = TcpStream::connect(&self.address).await?;
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = connector.connect(name, stream).await?;
        let body = encode(form);
        let more =
            headers.iter().fold(String::new(), |more, (name, value)| more + name + ": " + value + "\r\n");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-www-form-urlencoded\r\n{more}\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let kind = stream.get_ref().1.handshake_kind().expect("hands were shaken");
        Ok((kind, read(&String::from_utf8(answer).unwrap())))
    }
}

fn read(answer: &str) -> Answer {
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Answer { status, headers, body: serde_json::from_str(text).unwrap_or_default(), text: text.to_owned() }
}
