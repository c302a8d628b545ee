//! TLS on the public listener by rustls: certificate and key from files, read again when they change, and
//! clients that may show a certificate of theirs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

use crate::keys::certificate::is_readable;
use crate::keys::file::{self, KeyFileFault};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsFault {
    /// The certificates cannot be read.
    #[error("tls.cert `{}`: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The key cannot be read, or others can.
    #[error("tls.key: {0}")]
    Key(#[from] KeyFileFault),
    /// No key is in the file.
    #[error("tls.key `{}`: holds no private key in PEM (PKCS#8, PKCS#1 or SEC1)", .0.display())]
    NoKey(PathBuf),
    /// The two do not go together, or are of no use to TLS.
    #[error("tls.cert and tls.key: {0}")]
    Pair(#[from] rustls::Error),
}

/// What tells that a file was replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
    size: u64,
}

impl Stamp {
    /// Links are followed: mounted secrets are links.
    fn of(path: &Path) -> io::Result<Self> {
        let about = fs::metadata(path)?;
        Ok(Self { inode: about.ino(), changed: (about.mtime(), about.mtime_nsec()), size: about.len() })
    }
}

type Stamps = Option<(Stamp, Stamp)>;

/// The certificate in force.
pub(super) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    /// Whether clients are asked for a certificate.
    asks: bool,
    config: ArcSwap<ServerConfig>,
    /// The files as they were when they were last read, whether with success or not.
    read: Mutex<Stamps>,
}

impl Tls {
    /// Reads both files.
    pub(super) fn load(cert: PathBuf, key: PathBuf, asks: bool) -> Result<Self, TlsFault> {
        let stamps = stamps(&cert, &key);
        let config = ArcSwap::from_pointee(read(&cert, &key, asks)?);
        Ok(Self { cert, key, asks, config, read: Mutex::new(stamps) })
    }

    /// What shakes hands with the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.config.load_full().into()
    }

    /// Reads both files again. A fault changes nothing; the log tells either way.
    pub(super) fn reload(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.cert, &self.key);
        match read(&self.cert, &self.key, self.asks) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                info!("TLS certificate and key reloaded");
            }
            Err(fault) => error!(%fault, "TLS certificate and key were not reloaded; the old ones stay"),
        }
    }

    /// The same if a file has changed since it was last read. Where the two are replaced one after the other, the second
    /// change brings what the first could not.
    pub(super) fn reload_if_changed(&self) {
        let now = stamps(&self.cert, &self.key);
        let before = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if now.is_some() && now != before {
            self.reload();
        }
    }
}

/// Looks after the files for ever.
pub(super) async fn watch(tls: Option<Arc<Tls>>) {
    let Some(tls) = tls else { return };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        tls.reload_if_changed();
    }
}

fn stamps(cert: &Path, key: &Path) -> Stamps {
    Some((Stamp::of(cert).ok()?, Stamp::of(key).ok()?))
}

fn read(cert: &Path, key: &Path, asks: bool) -> Result<ServerConfig, TlsFault> {
    let fault = |why: String| TlsFault::Certificate { path: cert.to_owned(), why };
    let chain = CertificateDer::pem_file_iter(cert).map_err(|e| fault(e.to_string()))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|e| fault(e.to_string()))?;
    if chain.is_empty() {
        return Err(fault("holds no certificate in PEM".to_owned()));
    }
    let pem = file::read_private(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsFault::NoKey(key.to_owned()))?;
    let provider = ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ServerConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = if asks {
        builder.with_client_cert_verifier(Arc::new(AnyCertificate(algorithms)))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Asks for a certificate, and takes any and none: what a client shows may be meant for somebody else, and it may
/// authenticate by other means. The handshake proves that whoever shows a certificate has its key; whose it is, and who
/// vouches for it, is decided for each request by the client that it names (RFC 8705 §2).
///
/// A session that is resumed has the certificate of the handshake that began it: rustls keeps the two together, and a new
/// configuration begins with no sessions.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: they would tell strangers whom our clients trust, and keep self-signed certificates back.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    // INVARIANT: a certificate that is not readable never becomes a `Chain`, so that nobody is believed to be whom it names.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !is_readable(cert) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !is_readable(cert) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
