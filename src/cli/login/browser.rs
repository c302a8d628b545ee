//! The browser's answer: one request to a port of this machine (RFC 8252 §7.3).

use std::borrow::Cow;
use std::time::Duration;

use openidconnect::url::form_urlencoded;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::domain::ids::shown;

/// Path that the identity provider sends the browser to.
const PATH: &str = "/callback";
/// How long people may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long a connection may take to say what it wants.
const HEAD: Duration = Duration::from_secs(5);
/// Longest head of a request that is read.
const MAX_HEAD: usize = 16 * 1024;

/// Who shall send the answer.
pub(super) struct Sender {
    /// The identity provider.
    pub(super) issuer: String,
    /// Whether its answers say whose they are: then one that does not is not its own (RFC 9207 §2.4).
    pub(super) says_so: bool,
}

/// A port that waits for the browser.
pub(super) struct Callback {
    listener: TcpListener,
    url: String,
}

impl Callback {
    /// Opens one that is free, on loopback only.
    pub(super) async fn open() -> Result<Self, String> {
        let failed = |why: std::io::Error| format!("cannot listen for the browser: {why}");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, url: format!("http://{at}{PATH}") })
    }

    /// The `redirect_uri`.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The code that comes with this `state`. Whoever else knocks is sent away, and does not end the wait: any page may send a browser
    /// here.
    pub(super) async fn code(self, state: &str, sender: &Sender) -> Result<String, String> {
        let waited = timeout(PATIENCE, async {
            loop {
                let Ok((stream, _)) = self.listener.accept().await else { continue };
                if let Ok(Some(answer)) = timeout(HEAD, heard(stream, state, sender)).await {
                    return answer;
                }
            }
        });
        waited.await.unwrap_or_else(|_| Err("nobody signed in within five minutes".to_owned()))
    }
}

/// What a connection says; none if it is not the answer that is waited for.
async fn heard(mut stream: TcpStream, state: &str, sender: &Sender) -> Option<Result<String, String>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < MAX_HEAD {
        let mut piece = [0; 1024];
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        head.extend_from_slice(piece.get(..read)?);
    }
    let line = String::from_utf8_lossy(&head);
    let answer = read(line.lines().next().unwrap_or_default(), state, sender);
    let (status, words) = match &answer {
        None => ("404 Not Found", "Nothing is served here."),
        Some(Ok(_)) => ("200 OK", "You are signed in. Close this page and go back to the terminal."),
        Some(Err(_)) => ("400 Bad Request", "You are not signed in. The terminal says why."),
    };
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         referrer-policy: no-referrer\r\nconnection: close\r\n\r\n{words}",
        words.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
    answer
}

/// The code of a request line, or why there is none (RFC 6749 §4.1.2); nothing of a line that is not the answer.
fn read(line: &str, state: &str, sender: &Sender) -> Option<Result<String, String>> {
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let query = target.strip_prefix(PATH)?.strip_prefix('?')?;
    let sent: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let ours = sent.iter().any(|(key, value)| key == "state" && value == state);
    ours.then(|| code(&sent, sender))
}

/// The code of the answer's parameters, each of which comes once (RFC 6749 §3.1).
fn code(sent: &[(Cow<'_, str>, Cow<'_, str>)], sender: &Sender) -> Result<String, String> {
    let one = |name: &str| {
        let mut values = sent.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value);
        let first = values.next();
        if values.next().is_some() {
            Err(format!("the answer has `{name}` more than once"))
        } else {
            Ok(first)
        }
    };
    one("state")?;
    match one("iss")? {
        Some(iss) if iss != sender.issuer => {
            return Err("the answer is of another identity provider".to_owned());
        }
        None if sender.says_so => {
            let why = "the answer has no `iss`, which the identity provider says that it sends (RFC 9207)";
            return Err(why.to_owned());
        }
        Some(_) | None => {}
    }
    if let Some(error) = one("error")? {
        let why = one("error_description")?.unwrap_or_default();
        return Err(format!("the identity provider refuses: {} {}", shown(error), shown(why)));
    }
    one("code")?.map(str::to_owned).ok_or_else(|| "the identity provider sent no code".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_with_our_state_ends_the_wait() {
        let sender = Sender { issuer: "https://idp.example".to_owned(), says_so: false };
        let read = |line: &str| read(line, "s1", &sender);
        assert_eq!(read("GET /callback?code=c%2B1&state=s1 HTTP/1.1"), Some(Ok("c+1".to_owned())));
        let said = read("GET /callback?code=c&state=s1&iss=https%3A%2F%2Fidp.example HTTP/1.1");
        assert_eq!(said, Some(Ok("c".to_owned())));
        for other in [
            "GET /callback?code=c&state=s2 HTTP/1.1",
            "GET /callback?code=c HTTP/1.1",
            "GET /callback/x?code=c&state=s1 HTTP/1.1",
            "GET /favicon.ico HTTP/1.1",
            "POST /callback?code=c&state=s1 HTTP/1.1",
            "",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
        let refused = |line: &str| read(line).unwrap().unwrap_err();
        assert!(refused("GET /callback?error=access_denied&state=s1 HTTP/1.1").contains("access_denied"));
        assert!(
            refused("GET /callback?code=c&state=s1&iss=https://evil.example HTTP/1.1").contains("another")
        );
        assert!(refused("GET /callback?state=s1 HTTP/1.1").contains("no code"));
        for (twice, name) in [
            ("code=c&state=s1&state=s1", "state"),
            ("code=c&state=s2&state=s1", "state"),
            ("code=c&code=d&state=s1", "code"),
            ("code=c&state=s1&iss=https://idp.example&iss=https://evil.example", "iss"),
            ("code=c&state=s1&iss=https://evil.example&iss=https://idp.example", "iss"),
            ("error=a&error=b&state=s1", "error"),
        ] {
            let why = refused(&format!("GET /callback?{twice} HTTP/1.1"));
            assert_eq!(why, format!("the answer has `{name}` more than once"));
        }
    }

    #[test]
    fn where_answers_say_whose_they_are_one_that_does_not_is_refused() {
        let sender = Sender { issuer: "https://idp.example".to_owned(), says_so: true };
        let read = |query: &str| read(&format!("GET /callback?{query} HTTP/1.1"), "s1", &sender).unwrap();
        assert_eq!(read("code=c&state=s1&iss=https://idp.example"), Ok("c".to_owned()));
        for query in ["code=c&state=s1", "error=access_denied&state=s1", "code=c&state=s1&iss="] {
            read(query).unwrap_err();
        }
        assert!(read("code=c&state=s1").unwrap_err().contains("RFC 9207"));
    }
}
