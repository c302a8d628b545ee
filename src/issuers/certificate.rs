//! A certificate as what a client authenticates by: `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 §2)
//! [CA-05], and the X.509-SVID of a workload [CA-06].
//!
//! The handshake has proved that whoever shows it has its key. Here it is decided who that is.

use chrono::{DateTime, Utc};

use crate::domain::build_auth::trust_domain;
use crate::domain::objects::{CertificateName, TlsAuthSpec};
use crate::keys::certificate::{Authorities, CertificateFault, Chain};
use crate::keys::jwks::JwkSet;

/// Verifies that `authorities` vouch for `chain`, and that it has the one name that is declared.
pub fn verify_by_authority(
    chain: &Chain,
    authorities: &Authorities,
    declared: &TlsAuthSpec,
    now: DateTime<Utc>,
) -> Result<(), CertificateFault> {
    authorities.verify(chain, now)?;
    let leaf = chain.leaf()?;
    let mut names = declared.names();
    let name: Option<CertificateName<'_>> = names.next().filter(|_| names.next().is_none());
    if name.is_some_and(|name| leaf.has(&name)) { Ok(()) } else { Err(CertificateFault::OtherName) }
}

/// Verifies that `chain` begins with a certificate that the client has registered in `keys`. Nobody vouches for it: only its
/// dates are looked at.
pub fn verify_self_signed(chain: &Chain, keys: &JwkSet, now: DateTime<Utc>) -> Result<(), CertificateFault> {
    let leaf = chain.leaf()?;
    if !keys.keys().iter().any(|key| leaf.is_registered_by(key)) {
        return Err(CertificateFault::NotRegistered);
    }
    if leaf.is_valid_at(now) { Ok(()) } else { Err(CertificateFault::Dates) }
}

/// The SPIFFE ID of an X.509-SVID: the one URI in it (X509-SVID §2). Nothing vouches for it yet.
pub fn spiffe_id(chain: &Chain) -> Result<String, CertificateFault> {
    let leaf = chain.leaf()?;
    let mut uris = leaf.uris();
    let (Some(id), None) = (uris.next(), uris.next()) else {
        return Err(CertificateFault::Svid("it does not have exactly one URI"));
    };
    if trust_domain(id).is_none_or(|domain| domain.len() == id.len()) {
        return Err(CertificateFault::Svid("its URI is not the SPIFFE ID of a workload"));
    }
    Ok(id.to_owned())
}

/// Verifies that the `authorities` of its trust domain vouch for `chain` as that of a workload, which signs for nobody else
/// (X509-SVID §4, §5).
pub fn verify_svid(
    chain: &Chain,
    authorities: &Authorities,
    now: DateTime<Utc>,
) -> Result<(), CertificateFault> {
    authorities.verify(chain, now)?;
    if chain.leaf()?.may_sign_others() {
        return Err(CertificateFault::Svid("it may sign certificates or revocation lists"));
    }
    Ok(())
}
