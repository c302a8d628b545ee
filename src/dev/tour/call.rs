//! One request of the tour: the same value is sent, and printed as the `curl` to paste.

use super::super::shell::{SERVER, Variables, quoted};
use crate::terminal::http::{Answer, Credentials, Http, Unreachable};

/// The shell function that shows an answer and passes its token on.
pub(super) const TOKEN_OF: &str = "token_of";

/// The value of a form parameter.
#[derive(Clone)]
pub(super) enum Arg {
    /// This text.
    Text(String),
    /// What the shell variable holds.
    Var(&'static str),
}

/// A request.
pub(super) struct Call {
    /// Below the server's URL.
    pub(super) path: &'static str,
    /// The variable with `id:secret`, for client authentication.
    pub(super) client: Option<&'static str>,
    /// The form; a GET when empty.
    pub(super) form: Vec<(&'static str, Arg)>,
    /// The variable that takes the answer's token.
    pub(super) saves: Option<&'static str>,
}

impl Call {
    /// The command to paste, over several lines.
    pub(super) fn curl(&self) -> String {
        let client = self.client.map_or_else(String::new, |name| format!(" -u \"${name}\""));
        let mut lines = vec![format!("curl -s{client} ${SERVER}{}", self.path)];
        lines.extend(self.form.iter().map(|(name, arg)| parameter(name, arg)));
        let curl = lines.join(" \\\n  ");
        match self.saves {
            Some(name) => format!("{name}=$({curl} | {TOKEN_OF})"),
            None => format!("{curl}; echo"),
        }
    }

    /// Sends it, and keeps the answer's token.
    pub(super) async fn send(&self, http: &Http, variables: &mut Variables) -> Result<Answer, Unreachable> {
        let held = |name: &str| variables.get(name).map_or("", String::as_str);
        let url = format!("{}{}", held(SERVER), self.path);
        let answer = if self.form.is_empty() {
            http.get(&url).await?
        } else {
            let pair = self.client.map(|name| held(name).split_once(':').unwrap_or_default());
            let client = pair.map(|(id, secret)| Credentials { id, secret });
            let form = self.form.iter().map(|(name, arg)| match arg {
                Arg::Text(text) => (*name, text.as_str()),
                Arg::Var(variable) => (*name, held(variable)),
            });
            http.post(&url, client, form).await?
        };
        if let Some(name) = self.saves {
            variables.insert(name, answer.text("access_token").unwrap_or_default().to_owned());
        }
        Ok(answer)
    }
}

fn parameter(name: &str, arg: &Arg) -> String {
    match arg {
        Arg::Var(variable) => format!("-d {name}=\"${variable}\""),
        Arg::Text(text) if is_plain(text) => format!("-d {name}={text}"),
        Arg::Text(text) => format!("--data-urlencode {name}={}", quoted(text)),
    }
}

/// Whether neither shell nor form gives any of it another meaning.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_printed_as_a_command_that_a_shell_takes_whole() {
        let call = Call {
            path: "/oauth/token",
            client: Some("SUPPORT"),
            form: vec![
                ("subject_token", Arg::Var("ROOT")),
                ("scope", Arg::Text("orders:read it's".to_owned())),
                ("task_type", Arg::Text("refund_order".to_owned())),
            ],
            saves: Some("CHILD"),
        };
        let lines = [
            r#"CHILD=$(curl -s -u "$SUPPORT" $TG/oauth/token \"#,
            r#"  -d subject_token="$ROOT" \"#,
            r"  --data-urlencode scope='orders:read it'\''s' \",
            r"  -d task_type=refund_order | token_of)",
        ];
        assert_eq!(call.curl(), lines.join("\n"));
        let call = Call { path: "/oauth/jwks", client: None, form: Vec::new(), saves: None };
        assert_eq!(call.curl(), "curl -s $TG/oauth/jwks; echo");
    }
}
