//! Clients that authenticate by a certificate in TLS (RFC 8705), and who vouches for them (CA-05).

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::ids::Name;

/// Certificate authorities that vouch for clients, of those who name them and of nobody else. The trust store of the system
/// does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateAuthoritySpec {
    /// Their certificates in PEM, one or more. To replace one, both stand here for a while.
    pub certificates: String,
    /// Tenants that a platform authority serves; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Name>>,
}

/// The certificate that is the client: by an authority and exactly one name (`tls_client_auth`), or one of its own
/// (`self_signed_tls_client_auth`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsAuthSpec {
    /// The `CertificateAuthority` that its certificate leads to, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Name>,
    /// `tls_client_auth_subject_dn`: the subject, as RFC 4514 writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_dn: Option<String>,
    /// `tls_client_auth_san_dns`: a host name among its alternative names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub san_dns: Option<String>,
    /// `tls_client_auth_san_uri`: a URI among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub san_uri: Option<String>,
    /// `tls_client_auth_san_ip`: an IP address among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub san_ip: Option<IpAddr>,
    /// `tls_client_auth_san_email`: a mailbox among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub san_email: Option<String>,
    /// Its certificate is registered in `jwks`, or at `jwks_uri`, instead: by `x5c`, or by the public key alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub self_signed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The name by which a certificate is the client's (RFC 8705 §2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName<'s> {
    /// The subject.
    Subject(&'s str),
    /// An alternative `dNSName`.
    Dns(&'s str),
    /// An alternative `uniformResourceIdentifier`.
    Uri(&'s str),
    /// An alternative `iPAddress`.
    Ip(IpAddr),
    /// An alternative `rfc822Name`.
    Email(&'s str),
}

impl TlsAuthSpec {
    /// The names that are declared.
    pub fn names(&self) -> impl Iterator<Item = CertificateName<'_>> {
        let texts = [
            self.subject_dn.as_deref().map(CertificateName::Subject),
            self.san_dns.as_deref().map(CertificateName::Dns),
            self.san_uri.as_deref().map(CertificateName::Uri),
            self.san_ip.map(CertificateName::Ip),
            self.san_email.as_deref().map(CertificateName::Email),
        ];
        texts.into_iter().flatten()
    }
}
