//! `taskgrant secret`: a client secret and its hash.

use clap::Args;
use ring::rand::SecureRandom;

use crate::configuration::apply::secrets::FreshSecret;
use crate::terminal::output::{Exit, Output};

/// Makes a client secret of 256 random bits and its hash. The secret is shown once and stored nowhere.
#[derive(Args, Clone, Debug)]
pub struct SecretArgs {
    /// Print JSON: `secret` and `secret_sha256`.
    #[arg(long)]
    pub json: bool,
}

/// Prints a fresh secret: for the client the secret, for the object's file its hash, which covers the whole text with
/// its prefix `tgs_`.
pub fn secret(args: &SecretArgs, random: &dyn SecureRandom, output: &mut Output<'_>) -> Exit {
    let Some(fresh) = FreshSecret::new(random) else {
        output.complain("the system has no randomness");
        return Exit::Refused;
    };
    if args.json {
        output.json(&fresh);
    } else {
        output.line("# The client's secret, shown this once:");
        output.line(&fresh.secret);
        output.line("# Its hash, for the `spec` of the Agent or Resource:");
        output.line(&format!("auth: {{secret_sha256: [{}]}}", String::from(fresh.secret_sha256)));
    }
    Exit::Done
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;
    use crate::domain::objects::SecretHash;
    use crate::hash::sha256;

    #[test]
    fn the_hash_is_that_of_the_secret_and_no_two_are_alike() {
        let make = |json| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let output = &mut Output { out: &mut out, err: &mut err };
            assert_eq!(secret(&SecretArgs { json }, &SystemRandom::new(), output), Exit::Done);
            String::from_utf8(out).unwrap()
        };
        let fresh: serde_json::Value = serde_json::from_str(&make(true)).unwrap();
        let text = fresh["secret"].as_str().unwrap();
        assert_eq!(text.len(), 4 + 43);
        let hash = SecretHash::try_from(fresh["secret_sha256"].as_str().unwrap().to_owned()).unwrap();
        assert_eq!(hash.bytes().as_slice(), sha256(&[text.as_bytes()]));
        assert_ne!(make(true), make(true));
        assert!(make(false).contains("\ntgs_") && make(false).contains("auth: {secret_sha256: ["));
    }
}
