//! TLS on the public listener by rustls: certificate and key from files, read again when they change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

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
    config: ArcSwap<ServerConfig>,
    /// The files as they were when they were last read, whether with success or not.
    read: Mutex<Stamps>,
}

impl Tls {
    /// Reads both files.
    pub(super) fn load(cert: PathBuf, key: PathBuf) -> Result<Self, TlsFault> {
        let stamps = stamps(&cert, &key);
        let config = ArcSwap::from_pointee(read(&cert, &key)?);
        Ok(Self { cert, key, config, read: Mutex::new(stamps) })
    }

    /// What shakes hands with the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.config.load_full().into()
    }

    /// Reads both files again. A fault changes nothing; the log tells either way.
    pub(super) fn reload(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.cert, &self.key);
        match read(&self.cert, &self.key) {
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

fn read(cert: &Path, key: &Path) -> Result<ServerConfig, TlsFault> {
    let fault = |why: String| TlsFault::Certificate { path: cert.to_owned(), why };
    let chain = CertificateDer::pem_file_iter(cert).map_err(|e| fault(e.to_string()))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|e| fault(e.to_string()))?;
    if chain.is_empty() {
        return Err(fault("holds no certificate in PEM".to_owned()));
    }
    let pem = file::read_private(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsFault::NoKey(key.to_owned()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
