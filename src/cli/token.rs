//! A token as a command takes it: never on the command line unless its owner puts it there.

use std::io::Read;

use crate::dev::file::DevFile;
use crate::terminal::http::Http;

/// Longest token or file of one, in bytes.
const MAX: u64 = 64 * 1024;

/// The token at `place`: standard input for `-`, the token itself if it looks like one, else the content of a file.
pub(super) fn read(place: &str, stdin: &mut dyn Read) -> Result<String, String> {
    if is_token(place) { Ok(place.to_owned()) } else { kept(place, stdin) }
}

/// The token at `place`: standard input for `-`, else the content of a file. One that opens the admin API is not taken from the command
/// line, which the shell keeps and whoever is on the machine may read.
pub(super) fn kept(place: &str, stdin: &mut dyn Read) -> Result<String, String> {
    if is_token(place) {
        return Err("this takes a file or `-`, and no token: others could read that here, and it is in your shell's history"
            .to_owned());
    }
    let mut text = String::new();
    let read = if place == "-" {
        stdin.take(MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(place).and_then(|file| file.take(MAX).read_to_string(&mut text))
    };
    let shown = if place == "-" { "standard input" } else { place };
    read.map_err(|why| format!("cannot read a token from `{shown}`: {why}"))?;
    match text.trim() {
        "" => Err(format!("no token in `{shown}`")),
        token => Ok(token.to_owned()),
    }
}

/// Signs somebody in at the demo's identity provider; which of its tokens is told by `member`.
pub(super) async fn sign_in(
    demo: &DevFile,
    form: &[(&str, &str)],
    member: &str,
    http: &Http,
) -> Result<String, String> {
    let answer = http.post(&demo.identity_provider.token_endpoint, None, form.iter().copied()).await;
    let answer = answer.map_err(|why| why.to_string())?;
    let refused = || format!("the demo's identity provider signs nobody in: {}", answer.body);
    answer.text(member).map(str::to_owned).ok_or_else(refused)
}

/// Whether it looks like a compact JWS with a JSON header.
pub(super) fn is_token(text: &str) -> bool {
    text.starts_with("ey") && text.matches('.').count() == 2 && !text.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_from_the_argument_a_file_or_standard_input() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "eyJ.b.c\n").unwrap();
        let read = |place: &str, stdin: &str| read(place, &mut stdin.as_bytes());
        assert_eq!(read("eyJ.x.y", "").unwrap(), "eyJ.x.y");
        assert_eq!(read("-", " eyJ.s.t\n").unwrap(), "eyJ.s.t");
        assert_eq!(read(file.to_str().unwrap(), "").unwrap(), "eyJ.b.c");
        assert_eq!(read("-", " \n").unwrap_err(), "no token in `standard input`");
        assert!(read("/nowhere/token", "").unwrap_err().contains("/nowhere/token"));
    }

    #[test]
    fn what_opens_the_admin_api_comes_from_a_file_or_standard_input_alone() {
        let kept = |place: &str, stdin: &str| kept(place, &mut stdin.as_bytes());
        assert_eq!(kept("-", "eyJ.s.t\n").unwrap(), "eyJ.s.t");
        let refused = kept("eyJ.x.y", "").unwrap_err();
        assert!(refused.contains("a file or `-`") && !refused.contains("eyJ.x.y"), "{refused}");
    }
}
