//! Where a request comes from, and by which certificate: the peer of its connection, or what listed proxies say (DESIGN §9).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, header};

use super::certificate::{ShownCertificate, forwarded};
use super::link::Link;
use crate::config::{Hop, ProxyHeader};

/// Which proxies are believed, and by which header.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// The proxies in front.
    pub hops: Vec<Hop>,
    /// Where they name the source. Only this header is read: the other one could be the client's own.
    pub header: ProxyHeader,
    /// Whether they name the certificate of their client.
    pub client_cert: bool,
}

impl Forwarding {
    /// The source of a request: going from our peer towards the client, the first address that is no listed proxy. What
    /// stands beyond it was written by that address, or by whoever it chose to quote. An entry that is no address ends the
    /// walk at the proxy that wrote it.
    pub(super) fn source(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut source = peer.to_canonical();
        if !self.is_hop(source) {
            return source;
        }
        let name = match self.header {
            ProxyHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ProxyHeader::Forwarded => header::FORWARDED,
        };
        for value in headers.get_all(name).iter().rev() {
            // Each entry is read by itself: what a client wrote does not hide what the proxy appended to it.
            for entry in self.entries(value.as_bytes()) {
                let entry = std::str::from_utf8(entry).ok();
                let Some(address) = entry.and_then(|entry| self.address(entry)) else { return source };
                source = address.to_canonical();
                if !self.is_hop(source) {
                    return source;
                }
            }
        }
        source
    }

    /// The certificate of a request's client. Of a listed proxy it is the one that it names, if that is its task, and never
    /// the proxy's own; of everybody else it is their own, and never one that they name.
    pub(super) fn certificate(&self, link: Option<&Link>, headers: &HeaderMap) -> ShownCertificate {
        let Some(link) = link else { return ShownCertificate::default() };
        if !self.is_hop(link.peer().ip().to_canonical()) {
            return ShownCertificate(link.certificate().cloned().map(Ok));
        }
        let named = if self.client_cert { forwarded(headers) } else { Ok(None) };
        ShownCertificate(named.map(|chain| chain.map(Arc::new)).transpose())
    }

    fn is_hop(&self, address: IpAddr) -> bool {
        self.hops.iter().any(|hop| hop.is(address))
    }

    /// The entries of one header field, the last one first.
    fn entries<'v>(&self, value: &'v [u8]) -> Box<dyn Iterator<Item = &'v [u8]> + 'v> {
        match self.header {
            ProxyHeader::XForwardedFor => Box::new(value.rsplit(|byte| *byte == b',')),
            ProxyHeader::Forwarded => Box::new(split_from_end(value, b',')),
        }
    }

    fn address(&self, entry: &str) -> Option<IpAddr> {
        let node = match self.header {
            ProxyHeader::XForwardedFor => entry.trim(),
            ProxyHeader::Forwarded => &forwarded_for(entry)?,
        };
        let bracketed = node.strip_prefix('[').and_then(|node| node.split_once(']'));
        let address = bracketed.and_then(|(address, _port)| address.parse().ok());
        address.or_else(|| node.parse().ok()).or_else(|| Some(node.parse::<SocketAddr>().ok()?.ip()))
    }
}

/// Splits at every `separator` outside quoted strings (RFC 9110 §5.6.4), the last piece first. It is read from the end, since
/// there stands what the nearest proxy wrote: an open quote that a client sent before it closes nothing. A quote that nothing
/// opens makes all that is left one piece.
fn split_from_end(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(text);
    std::iter::from_fn(move || {
        let rest = left?;
        let cut = last_outside_quotes(rest, separator);
        left = cut.and_then(|at| rest.get(..at));
        rest.get(cut.map_or(0, |at| at + 1)..)
    })
}

/// Where `separator` stands last outside quoted strings.
fn last_outside_quotes(text: &[u8], separator: u8) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in text.iter().enumerate().rev() {
        // Within quotes a quote is a quote only behind an even number of backslashes; none stands before an opening one.
        let is_escaped = || text.iter().take(at).rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
        if *byte == b'"' && !(quoted && is_escaped()) {
            quoted = !quoted;
        } else if *byte == separator && !quoted {
            return Some(at);
        }
    }
    None
}

/// The `for` of one element of `Forwarded` (RFC 7239 §4); none where it is said twice, or its quotes are not closed.
fn forwarded_for(element: &str) -> Option<Cow<'_, str>> {
    let mut nodes = split_from_end(element.as_bytes(), b';').filter_map(|pair| {
        let (name, node) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(node.trim())
    });
    let node = nodes.next().filter(|_| nodes.next().is_none())?;
    match node.strip_prefix('"') {
        Some(quoted) => Some(Cow::Owned(unescaped(quoted.strip_suffix('"')?))),
        None => Some(Cow::Borrowed(node)),
    }
}

/// The text of a quoted string (RFC 9110 §5.6.4).
fn unescaped(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn forwarding(header: ProxyHeader) -> Forwarding {
        let hops = ["10.0.0.0/8", "fd00::1"].map(|hop| hop.to_owned().try_into().unwrap());
        Forwarding { hops: hops.into(), header, client_cert: false }
    }

    fn source(header: ProxyHeader, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let entry = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(entry) {
            headers.append(name, value);
        }
        forwarding(header).source(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_what_the_proxy_appended() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"\xff, 9.9.9.9").unwrap();
        headers.append("x-forwarded-for", value);
        let source = forwarding(ProxyHeader::XForwardedFor).source("10.0.0.1".parse().unwrap(), &headers);
        assert_eq!(source, "9.9.9.9".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn the_source_is_the_right_most_address_that_is_no_proxy_of_ours() {
        let from = |peer: &str, lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            source(ProxyHeader::XForwardedFor, peer, &lines)
        };
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "a client that says so itself");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            from("10.0.0.1", &["1.1.1.1, 198.51.100.7"]),
            "198.51.100.7",
            "what a client puts before it"
        );
        assert_eq!(
            from("10.0.0.1", &["1.1.1.1", "198.51.100.7,10.0.0.2"]),
            "198.51.100.7",
            "two lines, two proxies"
        );
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["198.51.100.7, nonsense"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["198.51.100.7, nonsense, 10.0.0.9"]), "10.0.0.9");
        assert_eq!(from("fd00::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(from("::ffff:10.0.0.1", &["198.51.100.7:80"]), "198.51.100.7");
    }

    #[test]
    fn forwarded_is_read_instead_where_the_proxies_write_it_and_never_both() {
        let forged = ("x-forwarded-for", "203.0.113.9");
        let from = |line: &str| source(ProxyHeader::Forwarded, "10.0.0.1", &[forged, ("forwarded", line)]);
        assert_eq!(from("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60");
        assert_eq!(from("for=1.1.1.1, For=\"[2001:db8:cafe::17]:4711\" ; proto=https"), "2001:db8:cafe::17");
        assert_eq!(from("for=_hidden"), "10.0.0.1");
        assert_eq!(from("proto=https"), "10.0.0.1");
        let other = source(ProxyHeader::XForwardedFor, "10.0.0.1", &[("forwarded", "for=203.0.113.9")]);
        assert_eq!(other, "10.0.0.1");
    }

    #[test]
    fn what_a_client_puts_into_quotes_or_leaves_open_names_no_source() {
        let from = |line: &str| source(ProxyHeader::Forwarded, "10.0.0.1", &[("forwarded", line)]);
        // The proxy copies the host, as the client chose it.
        assert_eq!(from(r#"for=192.0.2.60;host="a, for=6.6.6.6;x=""#), "192.0.2.60");
        assert_eq!(from(r#"for=192.0.2.60;host="a\", for=6.6.6.6;x=""#), "192.0.2.60");
        assert_eq!(from(r#"host="a;for=6.6.6.6";for=192.0.2.60"#), "192.0.2.60");
        assert_eq!(from(r#"for=192.0.2.60;host="a\\""#), "192.0.2.60");
        // What the client sent stands before it.
        assert_eq!(from(r#"for=", for=192.0.2.60;host="a""#), "192.0.2.60");
        assert_eq!(from(r#"for="6.6.6.6, for=192.0.2.60"#), "192.0.2.60");
        assert_eq!(from(r#"for="6.6.6.6, for=10.0.0.2"#), "10.0.0.2");
        assert_eq!(from(r"for=6.6.6.6;for=192.0.2.60"), "10.0.0.1", "said twice");
        assert_eq!(from(r#"for=192.0.2.60;host=a""#), "10.0.0.1", "quotes that nothing opens");
        assert_eq!(from(r#"for="\192.0.2.60""#), "192.0.2.60");
    }
}
