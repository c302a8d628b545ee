//! Certificate authorities that a command trusts beside the public ones, to reach a server whose certificate is of a private one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;

/// Why nothing is trusted by a file.
#[derive(Debug, Error)]
pub enum AuthoritiesFault {
    /// It cannot be read.
    #[error("`{}` cannot be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        why: io::Error,
    },
    /// It holds none.
    #[error("`{}` holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)", .0.display())]
    Empty(PathBuf),
    /// One of it is of no use.
    #[error("certificate {nth} in `{}` cannot be used: {why}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        nth: usize,
        /// What is wrong.
        why: String,
    },
}

/// The authorities; by default none.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<reqwest::Certificate>);

impl Authorities {
    /// Those whose certificates `file` holds, in PEM: all of them are good, or none is taken.
    pub fn read(file: &Path) -> Result<Self, AuthoritiesFault> {
        let path = || file.to_owned();
        let pem = fs::read(file).map_err(|why| AuthoritiesFault::Unreadable { path: path(), why })?;
        let (mut found, mut roots) = (Vec::new(), RootCertStore::empty());
        for (at, der) in CertificateDer::pem_slice_iter(&pem).enumerate() {
            let bad = |why: String| AuthoritiesFault::Bad { path: path(), nth: at + 1, why };
            let der = der.map_err(|why| bad(why.to_string()))?;
            found.push(reqwest::Certificate::from_der(&der).map_err(|why| bad(why.to_string()))?);
            roots.add(der).map_err(|why| bad(why.to_string()))?;
        }
        if found.is_empty() { Err(AuthoritiesFault::Empty(path())) } else { Ok(Self(found)) }
    }

    /// Has `client` trust them too.
    pub(super) fn trusted_by(&self, client: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        self.0.iter().cloned().fold(client, reqwest::ClientBuilder::add_root_certificate)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    #[test]
    fn a_file_is_taken_whole_or_it_is_said_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let read = || Authorities::read(&file).map(|found| found.0.len()).map_err(|why| why.to_string());
        assert!(read().unwrap_err().contains("ca.pem` cannot be read: "));
        let certificate = || {
            let CertifiedKey { cert, .. } =
                generate_simple_self_signed(["tg.acme.example".to_owned()]).unwrap();
            cert.pem()
        };
        let two = format!("# of acme\n{}\n{}", certificate(), certificate());
        let pem = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        for (text, told) in [
            (two.clone(), Ok(2)),
            (String::new(), Err("holds no certificate in PEM")),
            (pem("AAAA").replace("CERTIFICATE", "PRIVATE KEY"), Err("holds no certificate in PEM")),
            (format!("{two}{}", pem("AAAA")), Err("certificate 3 in `")),
            (format!("{two}{}", pem("?")), Err("certificate 3 in `")),
        ] {
            fs::write(&file, &text).unwrap();
            match (read(), told) {
                (Ok(count), Ok(wanted)) => assert_eq!(count, wanted),
                (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{why}"),
                (read, _) => panic!("{read:?}: {text}"),
            }
        }
    }
}
