//! How long what has ended stays readable.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ConfigFault;

/// How long what has ended stays readable. The log is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Seconds that a task and its tokens are kept after the task's deadline. A clock that was set forward by less, and back,
    /// costs no token that lives.
    pub ended_tasks: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { ended_tasks: 86_400 }
    }
}

impl RetentionConfig {
    pub(super) fn validate(self) -> Result<(), ConfigFault> {
        if (60..=31_536_000).contains(&self.ended_tasks) {
            return Ok(());
        }
        let why = "must be 60 to 31536000 seconds (a year)".to_owned();
        Err(ConfigFault::Value { key: "retention.ended_tasks", why })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn ended_tasks_stay_for_a_day_or_as_long_as_is_said_within_bounds() {
        let read = |more: &str| Config::from_toml(&format!("public_url = 'https://a'\n[retention]\n{more}"));
        assert_eq!(read("").unwrap().retention.ended_tasks, 86_400);
        assert_eq!(read("ended_tasks = 60").unwrap().retention.ended_tasks, 60);
        for bad in ["0", "59", "31536001"] {
            let text = read(&format!("ended_tasks = {bad}")).unwrap_err().to_string();
            assert!(text.starts_with("retention.ended_tasks: "), "{text}");
        }
    }
}
