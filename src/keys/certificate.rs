//! X.509 certificates of clients (RFC 5280): the names that stand in one, and whether a chain leads to authorities that an
//! operator has named. The system's trust store is never looked at.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage as Purpose, anchor_from_trusted_cert};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{KeyUsage, SubjectAltName};

use super::distinguished::DistinguishedName;
use super::public::PublicKey;
use crate::domain::objects::CertificateName;

/// Most certificates between a client's and an authority. Each costs a signature, and anybody may send some.
pub const MAX_INTERMEDIATES: usize = 8;

/// Why a certificate does not show who its client is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It leads to none of the authorities, at this time, for this purpose.
    #[error("the certificate does not lead to one of the authorities: {0}")]
    Untrusted(webpki::Error),
    /// Its own dates, where no authority vouches for them.
    #[error("the certificate is not valid at this time")]
    Dates,
    /// The registered name is not in it.
    #[error("the certificate does not have the registered name")]
    OtherName,
    /// It is not what the client has registered.
    #[error("the certificate is none of those that the client has registered")]
    NotRegistered,
    /// It is no X.509-SVID of a workload.
    #[error("the certificate is no X.509-SVID of this client: {0}")]
    Svid(&'static str),
}

/// A certificate and those that may lead from it to an authority, as a client shows them. Whoever shows it has its private
/// key; nothing else of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    leaf: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
}

impl Chain {
    /// From DER, the client's own first. None where there is no certificate, where its own cannot be read, or where too many
    /// follow it.
    pub fn new<'c>(certificates: impl IntoIterator<Item = &'c [u8]>) -> Option<Self> {
        let mut all = certificates.into_iter().map(|der| CertificateDer::from(der).into_owned());
        let leaf = all.next().filter(is_readable)?;
        let intermediates: Vec<_> = all.take(MAX_INTERMEDIATES + 1).collect();
        (intermediates.len() <= MAX_INTERMEDIATES).then_some(Self { leaf, intermediates })
    }

    /// The client's own certificate.
    pub fn leaf(&self) -> Result<Certificate<'_>, CertificateFault> {
        Certificate::parse(&self.leaf)
    }
}

/// Whether the certificate is one whose signatures can be verified: in DER, of version 3.
pub fn is_readable(der: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(der).is_ok()
}

/// What stands in a certificate.
pub struct Certificate<'c> {
    der: &'c [u8],
    read: x509_cert::Certificate,
    names: Vec<GeneralName>,
}

impl<'c> Certificate<'c> {
    fn parse(der: &'c [u8]) -> Result<Self, CertificateFault> {
        let unreadable = |_| CertificateFault::Unreadable;
        let read = x509_cert::Certificate::from_der(der).map_err(unreadable)?;
        let names = read.tbs_certificate.get::<SubjectAltName>().map_err(unreadable)?;
        let names = names.map(|(_, SubjectAltName(names))| names).unwrap_or_default();
        Ok(Self { der, read, names })
    }

    /// Whether `wanted` is its subject, or one of its alternative names, whole: no wildcard stands for a name, and a common
    /// name for no other (RFC 8705 §2.1.2).
    pub fn has(&self, wanted: &CertificateName<'_>) -> bool {
        match wanted {
            CertificateName::Subject(subject) => {
                let own = DistinguishedName::of(&self.read.tbs_certificate.subject);
                subject.parse().is_ok_and(|wanted: DistinguishedName| own == Some(wanted))
            }
            CertificateName::Dns(wanted) => {
                self.names.iter().any(|n| dns(n).is_some_and(|own| own.eq_ignore_ascii_case(wanted)))
            }
            CertificateName::Uri(wanted) => self.uris().any(|own| own == *wanted),
            CertificateName::Ip(wanted) => self.names.iter().any(|n| ip(n) == Some(*wanted)),
            CertificateName::Email(wanted) => {
                self.names.iter().any(|n| email(n).is_some_and(|own| same_mailbox(own, wanted)))
            }
        }
    }

    /// The URIs among its alternative names.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(uri)
    }

    /// Whether it may sign certificates or revocation lists; also where that cannot be told.
    pub fn may_sign_others(&self) -> bool {
        match self.read.tbs_certificate.get::<KeyUsage>() {
            Ok(Some((_, usage))) => usage.key_cert_sign() || usage.crl_sign(),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Whether it is valid at `now`, both ends included (RFC 5280 §4.1.2.5).
    pub fn is_valid_at(&self, now: DateTime<Utc>) -> bool {
        let validity = &self.read.tbs_certificate.validity;
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        let [from, until] = [validity.not_before, validity.not_after].map(|t| t.to_unix_duration().as_secs());
        (from..=until).contains(&seconds)
    }

    /// Whether the client has registered it by `key`: the very certificate where the JWK has one (`x5c`), else any with this
    /// public key (RFC 8705 §2.2).
    pub fn is_registered_by(&self, key: &PublicKey) -> bool {
        let pinned = key.certificate().is_none_or(|certificate| certificate == self.der);
        pinned && key.is_in(&self.read.tbs_certificate.subject_public_key_info)
    }
}

/// Whether the certificate that a JWK comes with is its own key's; none where it comes without one.
pub fn registered_certificate(key: &PublicKey) -> Option<bool> {
    let certificate = Certificate::parse(key.certificate()?);
    Some(certificate.is_ok_and(|certificate| certificate.is_registered_by(key)))
}

fn dns(name: &GeneralName) -> Option<&str> {
    if let GeneralName::DnsName(name) = name { Some(name.as_str()) } else { None }
}

fn uri(name: &GeneralName) -> Option<&str> {
    if let GeneralName::UniformResourceIdentifier(uri) = name { Some(uri.as_str()) } else { None }
}

fn email(name: &GeneralName) -> Option<&str> {
    if let GeneralName::Rfc822Name(name) = name { Some(name.as_str()) } else { None }
}

fn ip(name: &GeneralName) -> Option<IpAddr> {
    let GeneralName::IpAddress(octets) = name else { return None };
    let octets = octets.as_bytes();
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from).ok();
    v4.or_else(|| <[u8; 16]>::try_from(octets).map(IpAddr::from).ok())
}

/// The host of a mailbox has no case, what stands before it does (RFC 5280 §7.5).
fn same_mailbox(a: &str, b: &str) -> bool {
    match (a.rsplit_once('@'), b.rsplit_once('@')) {
        (Some((a, at)), Some((b, bt))) => a == b && at.eq_ignore_ascii_case(bt),
        _ => false,
    }
}

/// Why a certificate is no authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityFault {
    /// There is none.
    #[error("holds no certificate in PEM")]
    None,
    /// A private key where only certificates belong.
    #[error("holds a private key: treat it as leaked, and leave only certificates")]
    Private,
    /// One of them cannot be read.
    #[error("certificate {0} of it cannot be read, or is none that an authority could have")]
    Unreadable(usize),
    /// One of them is of somebody who vouches for nobody.
    #[error("certificate {0} of it is not that of an authority (`basicConstraints` does not say CA)")]
    NoAuthority(usize),
}

/// When the first of the certificates in `pem` ends, as far as they can be read.
pub fn first_expiry(pem: &str) -> Option<DateTime<Utc>> {
    let ends = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(|der| {
        let read = x509_cert::Certificate::from_der(&der.ok()?).ok()?;
        i64::try_from(read.tbs_certificate.validity.not_after.to_unix_duration().as_secs()).ok()
    });
    DateTime::from_timestamp(ends.min()?, 0)
}

/// Authorities that vouch for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorities(Vec<TrustAnchor<'static>>);

impl Authorities {
    /// From certificates in PEM.
    pub fn of_pem(text: &str) -> Result<Self, AuthorityFault> {
        if text.contains("PRIVATE KEY-----") {
            return Err(AuthorityFault::Private);
        }
        let mut all = Self::default();
        for (index, der) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
            all.add(&der.map_err(|_| AuthorityFault::Unreadable(index + 1))?, index + 1)?;
        }
        if all.0.is_empty() { Err(AuthorityFault::None) } else { Ok(all) }
    }

    /// Adds the authority with the certificate `der`, which a fault calls by `number`.
    pub(super) fn add(&mut self, der: &[u8], number: usize) -> Result<(), AuthorityFault> {
        let read = x509_cert::Certificate::from_der(der).map_err(|_| AuthorityFault::Unreadable(number))?;
        let constraints = read.tbs_certificate.get::<x509_cert::ext::pkix::BasicConstraints>();
        if !constraints.ok().flatten().is_some_and(|(_, constraints)| constraints.ca) {
            return Err(AuthorityFault::NoAuthority(number));
        }
        let der = CertificateDer::from(der);
        let anchor = anchor_from_trusted_cert(&der).map_err(|_| AuthorityFault::Unreadable(number))?;
        self.0.push(anchor.to_owned());
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies that `chain` leads to one of them, for client authentication, at `now`: dates, constraints, purposes and
    /// signatures as RFC 5280 §6 says. Revocation lists are not fetched.
    pub fn verify(&self, chain: &Chain, now: DateTime<Utc>) -> Result<(), CertificateFault> {
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        let leaf = EndEntityCert::try_from(&chain.leaf).map_err(CertificateFault::Untrusted)?;
        let purpose = Purpose::client_auth();
        leaf.verify_for_usage(algorithms, &self.0, &chain.intermediates, now, purpose, None, None)
            .map(drop)
            .map_err(CertificateFault::Untrusted)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn of_key(algorithm: &'static rcgen::SignatureAlgorithm) -> (CertificateDer<'static>, KeyPair) {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2025, 1, 1);
        let key = KeyPair::generate_for(algorithm).unwrap();
        (params.self_signed(&key).unwrap().der().clone(), key)
    }

    fn jwk(kind: &serde_json::Value) -> PublicKey {
        PublicKey::from_jwk(kind.as_object().unwrap()).unwrap()
    }

    #[test]
    fn ca_05_a_key_is_found_in_certificates_of_its_own_kind_only() {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let (p256, p256_key) = of_key(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (p384, p384_key) = of_key(&rcgen::PKCS_ECDSA_P384_SHA384);
        let (ed, ed_key) = of_key(&rcgen::PKCS_ED25519);
        let ec = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            jwk(&serde_json::json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)}))
        };
        let okp = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": encode(ed_key.public_key_raw())});
        let keys =
            [ec("P-256", p256_key.public_key_raw()), ec("P-384", p384_key.public_key_raw()), jwk(&okp)];
        for (index, der) in [&p256, &p384, &ed].into_iter().enumerate() {
            let certificate = Certificate::parse(der).unwrap();
            let found = keys.each_ref().map(|key| certificate.is_registered_by(key));
            assert_eq!(found, [index == 0, index == 1, index == 2]);
        }
    }

    #[test]
    fn ca_05_dates_are_those_of_the_certificate_both_ends_included() {
        let (der, _) = of_key(&rcgen::PKCS_ECDSA_P256_SHA256);
        let certificate = Certificate::parse(&der).unwrap();
        let at = |text: &str| certificate.is_valid_at(text.parse().unwrap());
        assert!(at("2024-01-01T00:00:00Z") && at("2025-01-01T00:00:00Z"));
        assert!(!at("2023-12-31T23:59:59Z") && !at("2025-01-01T00:00:01Z") && !at("1960-01-01T00:00:00Z"));
    }

    #[test]
    fn ca_05_the_host_of_a_mailbox_has_no_case() {
        assert!(same_mailbox("bot@acme.example", "bot@ACME.example"));
        for other in ["Bot@acme.example", "bot@acme.example.evil", "bot", "", "x@bot@acme.example"] {
            assert!(!same_mailbox("bot@acme.example", other), "{other}");
        }
        assert!(!same_mailbox("bot", "bot"));
    }

    #[test]
    fn ca_05_what_cannot_be_read_or_is_too_long_is_no_chain() {
        let (der, _) = of_key(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(Chain::new([]), None);
        assert_eq!(Chain::new([&b"0"[..]]), None);
        assert!(Chain::new([der.as_ref(), b"0"]).is_some(), "what follows is looked at when it is used");
        assert!(Chain::new(std::iter::repeat_n(der.as_ref(), 1 + MAX_INTERMEDIATES)).is_some());
        assert_eq!(Chain::new(std::iter::repeat_n(der.as_ref(), 2 + MAX_INTERMEDIATES)), None);
    }
}
