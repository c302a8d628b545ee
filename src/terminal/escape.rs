//! Texts that others have chosen, as a terminal may show them: nothing is cut, and nothing of them acts on it.

use serde_json::Value;

/// What is not printable ASCII is spelt out: letters that look alike or turn the line around do not.
pub fn escaped(text: &str) -> String {
    let spelt = |c: char| match c {
        ' '..='~' => c.to_string(),
        _ => c.escape_unicode().to_string(),
    };
    text.chars().map(spelt).collect()
}

/// A line of a file, [`escaped`]; of a tab four spaces are left.
pub fn escaped_line(line: &str) -> String {
    escaped(&line.replace('\t', "    "))
}

/// All of a value, [`escaped`]: a text as it is, of null nothing, anything else as JSON.
pub fn escaped_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => escaped(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_could_act_on_a_terminal_or_look_like_something_else_is_spelt_out() {
        assert_eq!(escaped("refunds:write ~ \"x\" \\"), "refunds:write ~ \"x\" \\");
        for (text, told) in [
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\nb\r\tc\u{7f}", "a\\u{a}b\\u{d}\\u{9}c\\u{7f}"),
            ("adm\u{456}n", "adm\\u{456}n"),
            ("\u{202e}resu", "\\u{202e}resu"),
            ("a\u{200b}b\u{9b}", "a\\u{200b}b\\u{9b}"),
        ] {
            assert_eq!(escaped(text), told);
        }
    }

    #[test]
    fn nothing_is_cut() {
        assert_eq!(escaped(&"x".repeat(5000)).len(), 5000);
    }

    #[test]
    fn a_line_keeps_its_indentation_and_nothing_else_of_its_tabs() {
        assert_eq!(escaped_line("\tallow if {\u{1b}"), "    allow if {\\u{1b}");
    }

    #[test]
    fn a_value_is_told_whole_and_escaped_inside_too() {
        assert_eq!(escaped_value(&Value::Null), "");
        assert_eq!(escaped_value(&json!("a\u{1b}")), "a\\u{1b}");
        assert_eq!(escaped_value(&json!(true)), "true");
        assert_eq!(escaped_value(&json!(4.50)), "4.5");
        // JSON leaves what is above ASCII as it is.
        assert_eq!(escaped_value(&json!({"k": ["\u{202e}", 1]})), "{\"k\":[\"\\u{202e}\",1]}");
    }
}
