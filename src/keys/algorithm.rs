//! The signature algorithms this server knows: all asymmetric, a closed list (RFC 8725 §3.1) [JW-01].

use std::fmt;
use std::str::FromStr;

/// A JWS `alg` (RFC 7518 §3.1, RFC 8037 §3.1). There is no `none` and no `HS*`: with neither in the type, a
/// public key can never be taken for a shared secret, nor an unsigned token for a signed one [JW-01].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256; the default for our own tokens.
    Es256,
    /// ECDSA on P-384 with SHA-384; verified only.
    Es384,
    /// Ed25519, under the name `EdDSA` only.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384; verified only.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512; verified only.
    Rs512,
    /// RSASSA-PSS with SHA-256; verified only.
    Ps256,
    /// RSASSA-PSS with SHA-384; verified only.
    Ps384,
    /// RSASSA-PSS with SHA-512; verified only.
    Ps512,
}

/// The name is not one of [`Algorithm::ALL`]; names are case-sensitive (RFC 7515 §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the algorithm is not one that this server accepts")]
pub struct UnknownAlgorithm;

impl Algorithm {
    /// Every algorithm that can be verified, for metadata and for messages.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    /// The registered name, as it stands in a header's or a key's `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|known| known.name() == name).ok_or(UnknownAlgorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Es256 => Self::ES256,
            Algorithm::Es384 => Self::ES384,
            Algorithm::EdDsa => Self::EdDSA,
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Rs384 => Self::RS384,
            Algorithm::Rs512 => Self::RS512,
            Algorithm::Ps256 => Self::PS256,
            Algorithm::Ps384 => Self::PS384,
            Algorithm::Ps512 => Self::PS512,
        }
    }
}

impl TryFrom<jsonwebtoken::Algorithm> for Algorithm {
    type Error = UnknownAlgorithm;

    fn try_from(foreign: jsonwebtoken::Algorithm) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|known| foreign == (*known).into()).ok_or(UnknownAlgorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_its_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            assert_eq!(Algorithm::try_from(jsonwebtoken::Algorithm::from(algorithm)), Ok(algorithm));
        }
    }

    #[test]
    fn jw_01_none_and_symmetric_names_are_no_algorithm() {
        for name in ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "es256", "ES512", "RSA-OAEP"] {
            assert_eq!(name.parse::<Algorithm>(), Err(UnknownAlgorithm), "{name}");
        }
        assert_eq!(Algorithm::try_from(jsonwebtoken::Algorithm::HS256), Err(UnknownAlgorithm));
    }
}
