//! Distinguished names, for comparison (RFC 5280 §7.1, RFC 4514).

use std::collections::BTreeSet;
use std::str::FromStr;

use x509_cert::der::asn1::{Any, ObjectIdentifier};
use x509_cert::der::{Encode as _, Tag, Tagged as _};
use x509_cert::name::RdnSequence;

/// A distinguished name: its parts in order, each a set of attributes. Never empty.
///
/// Texts are equal character by character, whatever kind of string they are written in: an authority may write
/// `UTF8String` for what another writes as `PrintableString`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinguishedName(Vec<BTreeSet<(ObjectIdentifier, Attribute)>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Attribute {
    Text(String),
    /// In DER: compared byte by byte.
    Other(Vec<u8>),
}

impl DistinguishedName {
    /// The name as it stands in a certificate; none for an empty one.
    pub(super) fn of(name: &RdnSequence) -> Option<Self> {
        let attributes = |part: &x509_cert::name::RelativeDistinguishedName| {
            part.0.iter().map(|a| Some((a.oid, attribute(&a.value)?))).collect::<Option<BTreeSet<_>>>()
        };
        let parts: Vec<_> = name.0.iter().map(attributes).collect::<Option<_>>()?;
        (!parts.is_empty()).then_some(Self(parts))
    }
}

fn attribute(value: &Any) -> Option<Attribute> {
    if matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String) {
        return Some(Attribute::Text(std::str::from_utf8(value.value()).ok()?.to_owned()));
    }
    Some(Attribute::Other(value.to_der().ok()?))
}

/// A text that is no distinguished name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no distinguished name as RFC 4514 writes it: `CN=support-bot,OU=agents,O=Acme,C=GB`, without spaces around commas"
)]
pub struct NoName;

impl FromStr for DistinguishedName {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let name: RdnSequence = text.parse().map_err(|_| NoName)?;
        Self::of(&name).ok_or(NoName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_05_names_are_equal_part_by_part_in_order_whatever_their_string_type() {
        let name = |text: &str| text.parse::<DistinguishedName>();
        let one = name("CN=support-bot,O=Acme\\, Inc.,C=GB").unwrap();
        assert_eq!(one, name("cn=support-bot,o=Acme\\, Inc.,c=GB").unwrap());
        assert_eq!(one, name("2.5.4.3=support-bot,2.5.4.10=Acme\\2c Inc.,2.5.4.6=GB").unwrap());
        assert_eq!(one, name("CN=#130b737570706f72742d626f74,O=Acme\\, Inc.,C=GB").unwrap());
        assert_eq!(name("CN=a+OU=b,O=c").unwrap(), name("OU=b+CN=a,O=c").unwrap());
        for other in [
            "CN=support-bot,C=GB,O=Acme\\, Inc.",
            "C=GB,O=Acme\\, Inc.,CN=support-bot",
            "CN=Support-bot,O=Acme\\, Inc.,C=GB",
            "CN=support-bot,O=Acme\\, Inc.",
            "O=Acme\\, Inc.,C=GB",
            "CN=support-bot+O=Acme\\, Inc.,C=GB",
        ] {
            assert_ne!(one, name(other).unwrap(), "{other}");
        }
        for none in ["", "support-bot", "CN=a, O=b", "X-Y=a", "CN=#zz", "/CN=a/O=b", "CN=a,,O=b"] {
            assert_eq!(name(none), Err(NoName), "{none}");
        }
    }
}
