//! TLS on the public listener: who is served, what is refused, and new certificates without a restart.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use taskgrant::app::{App, StartFault};
use taskgrant::clock::SystemClock;
use taskgrant::config::Config;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::support::process::free_port;

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a new certificate for loopback and its key, the key first; returns the certificate.
fn certify(folder: &Path) -> String {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = folder.join("key.pem");
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    cert.pem()
}

async fn build(folder: &Path) -> (Result<App, StartFault>, TcpListener) {
    build_with(folder, "").await
}

async fn build_with(folder: &Path, more: &str) -> (Result<App, StartFault>, TcpListener) {
    rustls::crypto::ring::default_provider().install_default().ok();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let toml = format!(
        "public_url = 'https://{at}'\nlisten = '{at}'\ndata = '{0}/data'\n[limits]\nheader_timeout = 1\n\
         [tls]\ncert = '{0}/cert.pem'\nkey = '{0}/key.pem'\n{more}",
        folder.display()
    );
    (App::build(Config::from_toml(&toml).unwrap(), Arc::new(SystemClock)).await, listener)
}

async fn start() -> (TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certify(folder.path());
    let (app, listener) = build(folder.path()).await;
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(app.unwrap().serve(listener, std::future::pending()));
    (folder, address, certificate)
}

#[tokio::test]
async fn the_admin_api_is_served_by_the_same_certificate_and_in_no_other_way() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certify(folder.path());
    let port = free_port();
    let (app, listener) = build_with(folder.path(), &format!("[admin]\nlisten = '127.0.0.1:{port}'")).await;
    tokio::spawn(app.unwrap().serve(listener, std::future::pending()));
    let root = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
    let client =
        reqwest::Client::builder().no_proxy().tls_built_in_root_certs(false).add_root_certificate(root);
    let client = client.build().unwrap();
    let at = |scheme: &str| format!("{scheme}://127.0.0.1:{port}/admin/v1/objects");
    let served = timeout(PATIENCE, async {
        loop {
            match client.get(at("https")).send().await {
                Ok(answer) => return answer.status(),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    });
    assert_eq!(served.await.unwrap(), 401);
    assert!(client.get(at("http")).send().await.is_err(), "plain HTTP is no handshake");
}

/// Whether a client that trusts only `certificate` is served.
async fn is_served(address: &str, certificate: &str) -> bool {
    let root = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
    let client =
        reqwest::Client::builder().no_proxy().tls_built_in_root_certs(false).add_root_certificate(root);
    let answer = client.build().unwrap().get(format!("https://{address}/healthz")).send().await;
    answer.is_ok_and(|answer| answer.status() == 200 && answer.version() == reqwest::Version::HTTP_11)
}

#[tokio::test]
async fn tls_is_served_and_a_new_certificate_comes_without_a_restart() {
    let (folder, address, old) = start().await;
    assert!(is_served(&address, &old).await);
    let new = certify(folder.path());
    assert!(
        !is_served(&address, &new).await || !is_served(&address, &old).await,
        "one certificate at a time"
    );
    let began = Instant::now();
    while !is_served(&address, &new).await {
        assert!(began.elapsed() < PATIENCE, "the old certificate stays");
        sleep(Duration::from_millis(100)).await;
    }
    fs::write(folder.path().join("cert.pem"), "nonsense").unwrap();
    sleep(Duration::from_secs(3)).await;
    assert!(is_served(&address, &new).await, "a bad file changes nothing");
}

#[tokio::test]
async fn what_is_not_tls_or_shakes_hands_for_ever_is_closed() {
    let (_folder, address, certificate) = start().await;
    for bytes in ["GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", "", "\u{16}\u{3}\u{1}"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "still open: {bytes:?}");
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    }
    assert!(is_served(&address, &certificate).await);
}

#[tokio::test]
async fn a_tls_key_that_others_can_read_and_one_of_another_certificate_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let key = folder.path().join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = build(folder.path()).await.0.map(drop).unwrap_err().to_string();
    assert!(refused.contains("chmod 600") && refused.contains("key.pem"), "{refused}");
    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(other.path().join("cert.pem"), folder.path().join("cert.pem")).unwrap();
    let refused = build(folder.path()).await.0.map(drop).unwrap_err().to_string();
    assert!(refused.starts_with("tls.cert and tls.key: "), "{refused}");
    fs::remove_file(folder.path().join("cert.pem")).unwrap();
    let refused = build(folder.path()).await.0.map(drop).unwrap_err().to_string();
    assert!(refused.starts_with("tls.cert `"), "{refused}");
}
