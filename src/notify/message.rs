//! What is sent, and its signature (Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use ring::hmac;
use serde_json::{Value, json};

use crate::config::{Channel, Format};
use crate::domain::approval::Approval;

/// A message, as it is sent each time.
pub(super) struct Message {
    id: String,
    body: String,
}

impl Message {
    pub(super) fn new(approval: &Approval, channel: &Channel) -> Self {
        let id = approval.id.to_string();
        let link = channel.link.as_ref().map(|link| link.replace("{id}", &id));
        let body = match channel.format {
            Format::Json => for_programs(approval, link.as_deref()),
            Format::Slack => json!({"text": for_people(approval, link.as_deref())}),
        };
        Self { id, body: body.to_string() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn body(&self) -> &str {
        &self.body
    }

    /// The headers by which a receiver knows that it comes from here, and when.
    pub(super) fn headers(&self, secret: &[u8], now: DateTime<Utc>) -> [(&'static str, String); 3] {
        let at = now.timestamp().to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signed = format!("{}.{at}.{}", self.id, self.body);
        let signature = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
        [
            ("webhook-id", self.id.clone()),
            ("webhook-timestamp", at),
            ("webhook-signature", format!("v1,{signature}")),
        ]
    }
}

/// Reasons that policy keeps to itself are for approvers, who look; a channel may have more readers.
fn public_reasons(approval: &Approval) -> Vec<&Value> {
    let reasons = approval.shown.get("reasons").and_then(Value::as_array);
    let public = |reason: &&Value| reason.get("public").and_then(Value::as_bool).unwrap_or_default();
    reasons.into_iter().flatten().filter(public).collect()
}

fn for_programs(approval: &Approval, link: Option<&str>) -> Value {
    let shown = |member: &str| approval.shown.get(member).cloned().unwrap_or_default();
    json!({
        "type": "approval.pending",
        "approval_id": approval.id,
        "tenant": approval.tenant,
        "client_id": approval.client_id,
        "principal": shown("principal"),
        "task_type": shown("task_type"),
        "scope": shown("scope"),
        "resources": shown("resources"),
        "authorization_details": shown("authorization_details"),
        "delegate_to": shown("delegate_to"),
        "reasons": public_reasons(approval),
        "quorum": approval.quorum,
        "expires_at": approval.expires_at,
        "link": link,
    })
}

fn for_people(approval: &Approval, link: Option<&str>) -> String {
    let text =
        |pointer: &str| plain(approval.shown.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    let (task_type, principal, scope) = (text("/task_type/name"), text("/principal/sub"), text("/scope"));
    let agent = plain(approval.client_id.as_str());
    let until = approval.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut lines = vec![format!("Approval needed: `{task_type}`, {agent} for {principal}, scope `{scope}`")];
    for reason in public_reasons(approval) {
        lines.push(format!(
            "Why: {}",
            plain(reason.get("message").and_then(Value::as_str).unwrap_or_default())
        ));
    }
    let look = link.map_or_else(|| format!("`taskgrant approvals show {}`", approval.id), ToOwned::to_owned);
    lines.push(format!("Until {until}: {look}"));
    lines.join("\n")
}

/// Text that shows as itself: in Slack's markup `<`, `>` and `&` lead to links and mentions, backquotes end code.
fn plain(text: &str) -> String {
    let cut: String =
        text.chars().take(300).map(|c| if c.is_control() || c == '`' { ' ' } else { c }).collect();
    cut.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the Standard Webhooks specification, signed there with `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let message =
            Message { id: "msg_p5jXN8AQM9LWM0D4loKWxJek".into(), body: r#"{"test": 2432232314}"#.into() };
        let headers = message.headers(&secret, DateTime::from_timestamp(1_614_265_330, 0).unwrap());
        assert_eq!(headers[1].1, "1614265330");
        assert_eq!(headers[2].1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn t38_what_others_chose_shows_as_itself() {
        assert_eq!(
            plain("<!channel> `x` & <https://evil|ok>\n"),
            "&lt;!channel&gt;  x  &amp; &lt;https://evil|ok&gt; "
        );
    }
}
