//! The pages of the demo provider: plain HTML that runs nothing, loads nothing and is shown in no frame.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};

use super::super::cast;

/// The page on which somebody is chosen. `action` is where the form goes, `name` its one-time token, and `origin` where the answer to it
/// leads: browsers follow a form to nowhere else.
pub(super) fn choice(action: &str, name: &str, origin: &str) -> Response {
    let people: String = cast::people().map(button).collect();
    let body = format!(
        "<p><strong>This is a demo without passwords.</strong> Whoever opens this page on this machine is whom they choose here. Nobody \
         on it is real.</p>\n<p>The client <code>{}</code> asks who you are.</p>\n<form method=\"post\" action=\"{}\">\n\
         <input type=\"hidden\" name=\"form\" value=\"{}\">\n{people}</form>\n",
        cast::ADMIN_APP,
        escaped(action),
        escaped(name)
    );
    page(StatusCode::OK, "Who are you?", &body, &format!("'self' {origin}"))
}

fn button(person: &cast::Person) -> String {
    format!(
        "<p><button name=\"person\" value=\"{}\">{}</button> <code>{}</code>, in the groups {}</p>\n",
        escaped(person.name),
        escaped(person.full_name),
        escaped(person.name),
        escaped(&person.groups.join(", "))
    )
}

/// A page that says why there is no sign-in.
pub(super) fn refusal(status: StatusCode, why: &str) -> Response {
    page(status, "Nobody is signed in", &format!("<p>{}</p>\n", escaped(why)), "'none'")
}

fn page(status: StatusCode, title: &str, body: &str, form_action: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title} (Taskgrant demo)</title></head>\n\
         <body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    );
    let mut response = (status, Html(html)).into_response();
    let policy =
        format!("default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action {form_action}");
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // `no-referrer` would take the `Origin` from the form, which is looked at.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    super::no_store(response)
}

/// `text` as HTML shows it, also within the quotes of an attribute.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_becomes_markup() {
        assert_eq!(escaped("<a href=\"x\" b='y'>&"), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
    }
}
