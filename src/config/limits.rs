//! What one caller, and all of them together, may use.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ConfigFault;

/// What one caller, and all of them together, may use. A rate is in requests a second, averaged over 10 s: ten times as
/// many may come at once; 0 is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Open connections to the public listener. One more takes the place of the one that has waited longest for its client.
    pub connections: usize,
    /// Seconds until the head of a request has come, the TLS handshake included.
    pub header_timeout: u32,
    /// Seconds that a connection may stay open between two requests.
    pub idle_timeout: u32,
    /// Seconds until a request is answered, the reading of its body included.
    pub request_timeout: u32,
    /// Changes that wait to be committed; one more is answered 503.
    pub writer_queue: usize,
    /// Requests of one authenticated client; revocations are not counted.
    pub client_rate: u32,
    /// Exchanges for one principal, whoever asks.
    pub principal_rate: u32,
    /// Requests from one source address, of IPv6 one /64 network.
    pub address_rate: u32,
    /// Failed client authentications from one source address.
    pub failure_rate: u32,
    /// Tokens of one task, all that were ever issued counted; 0 is no limit.
    pub task_tokens: u32,
    /// Children of one token, all that were ever issued counted; 0 is no limit.
    pub token_children: u32,
    /// Exchanges of one task in a minute (not a second); 0 is no limit.
    pub task_rate: u32,
    /// Approvals that one client may wait for at once; 0 is no limit.
    pub waiting_approvals: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 1024,
            header_timeout: 5,
            idle_timeout: 75,
            request_timeout: 10,
            writer_queue: 8192,
            client_rate: 50_000,
            principal_rate: 50_000,
            address_rate: 50_000,
            failure_rate: 10,
            task_tokens: 10_000,
            token_children: 10_000,
            task_rate: 6_000,
            waiting_approvals: 100,
        }
    }
}

impl LimitsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigFault> {
        let seconds = |key, value: u32| (key, (1..=3600).contains(&value), "must be 1 to 3600 seconds");
        let count = |key, value: usize| (key, (1..=1_000_000).contains(&value), "must be 1 to 1000000");
        let checks = [
            count("limits.connections", self.connections),
            count("limits.writer_queue", self.writer_queue),
            seconds("limits.header_timeout", self.header_timeout),
            seconds("limits.idle_timeout", self.idle_timeout),
            seconds("limits.request_timeout", self.request_timeout),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((key, _, why)) => Err(ConfigFault::Value { key, why: why.to_owned() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn limits_have_a_range() {
        for (key, bad) in
            [("connections", 0), ("writer_queue", 0), ("header_timeout", 0), ("request_timeout", 3601)]
        {
            let text = Config::from_toml(&format!("public_url = 'https://a'\n[limits]\n{key} = {bad}"))
                .unwrap_err()
                .to_string();
            assert!(text.starts_with(&format!("limits.{key}: ")), "{text}");
        }
    }
}
