//! The certificate that a request's client has shown: in the handshake of its connection, or to a listed proxy, which names
//! it in `Client-Cert` (RFC 9440).

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::keys::certificate::Chain;

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// Why what a proxy says of a certificate is not believed: one that adds its value to the client's, or takes the client's for
/// its own, would let anybody be anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum BadClientCert {
    /// Two values: one of them may be the client's own.
    #[error("Client-Cert: the header is there more than once")]
    Repeated,
    /// Not one byte sequence.
    #[error("Client-Cert: the value is not one byte sequence (RFC 9440 section 2.1)")]
    Malformed,
    /// Not a list of byte sequences, or without the certificate that it belongs to.
    #[error("Client-Cert-Chain: not a list of byte sequences beside a Client-Cert (RFC 9440 section 2.2)")]
    Chain,
}

/// What was shown, as an extension of the request.
#[derive(Clone, Debug, Default)]
pub(super) struct ShownCertificate(pub(super) Option<Result<Arc<Chain>, BadClientCert>>);

/// Reads what a proxy says. None where it says nothing, and where the certificate cannot be used by anybody.
pub(super) fn forwarded(headers: &HeaderMap) -> Result<Option<Chain>, BadClientCert> {
    let mut values = headers.get_all(CLIENT_CERT).iter();
    let leaf = values.next();
    if values.next().is_some() {
        return Err(BadClientCert::Repeated);
    }
    let lines = || headers.get_all(CLIENT_CERT_CHAIN).iter();
    let Some(leaf) = leaf else {
        return if lines().next().is_some() { Err(BadClientCert::Chain) } else { Ok(None) };
    };
    let leaf = byte_sequence(leaf.as_bytes()).ok_or(BadClientCert::Malformed)?;
    let members = lines().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let chain: Vec<_> = members.map(byte_sequence).collect::<Option<_>>().ok_or(BadClientCert::Chain)?;
    Ok(Chain::new([&leaf].into_iter().chain(&chain).map(Vec::as_slice)))
}

/// A byte sequence without parameters (RFC 8941 §3.3.5): Base64 between two colons.
fn byte_sequence(text: &[u8]) -> Option<Vec<u8>> {
    let encoded = text.trim_ascii().strip_prefix(b":")?.strip_suffix(b":")?;
    STANDARD.decode(encoded).ok().filter(|bytes| !bytes.is_empty())
}
