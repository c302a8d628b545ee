use std::sync::Mutex;

use super::super::testing::{Reply, Site, dev_client};
use super::*;

/// A resolver that answers each question with the next of its answers, and the last one for ever.
struct Scripted(Mutex<Vec<Vec<IpAddr>>>);

impl Scripted {
    fn client(policy: OutboundPolicy, answers: &[&[&str]]) -> Outbound {
        let answers =
            answers.iter().map(|a| a.iter().map(|ip| ip.parse().unwrap()).collect()).rev().collect();
        Outbound::with_resolver(policy, Arc::new(Self(Mutex::new(answers)))).unwrap()
    }
}

impl Resolve for Scripted {
    fn resolve(&self, _: Name) -> Resolving {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        let addresses: Addrs = Box::new(answer.unwrap().into_iter().map(|ip| SocketAddr::new(ip, 0)));
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

fn strict() -> Outbound {
    Outbound::new(OutboundPolicy::default()).unwrap()
}

fn allowing(listed: &str) -> OutboundPolicy {
    OutboundPolicy { allow_private: vec![listed.to_owned()], allow_http_loopback: false }
}

#[tokio::test]
async fn a_body_is_fetched_with_its_headers() {
    let site = Site::start().await;
    site.set("/x", Reply::new(200, "content-type: application/json\r\ncache-control: max-age=7\r\n", "{}"));
    let fetched = dev_client().get(&site.url("/x")).await.unwrap();
    assert_eq!(fetched.body, b"{}");
    assert_eq!(fetched.content_type.as_deref(), Some("application/json"));
    assert_eq!(fetched.cache_control.as_deref(), Some("max-age=7"));
}

#[tokio::test]
async fn t37_plain_http_is_refused() {
    let site = Site::start().await;
    assert!(matches!(strict().get(&site.url("/x")).await, Err(FetchFault::NotHttps(_))));
    for url in ["http://idp.example/x", "ftp://idp.example/x", "file:///etc/passwd", "data:text/plain,x"] {
        let fault = dev_client().get(url).await.unwrap_err();
        assert!(matches!(fault, FetchFault::NotHttps(_) | FetchFault::BadUrl(_)), "{url}: {fault}");
    }
    assert_eq!(site.connections(), 0);
}

#[tokio::test]
async fn t37_no_spelling_of_the_loopback_address_connects() {
    let site = Site::start().await;
    let port = site.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "１２７.0.0.1",
        "127。0。0。1",
        "%31%32%37.0.0.1",
    ] {
        let fault = strict().get(&format!("https://{host}:{port}/")).await.unwrap_err();
        assert!(matches!(fault, FetchFault::NotPublic(_)), "{host}: {fault}");
    }
    assert_eq!(site.connections(), 0);
}

#[tokio::test]
async fn t37_a_name_that_resolves_to_loopback_does_not_connect() {
    let site = Site::start().await;
    let port = site.address.port();
    let named = strict().get(&format!("https://localhost:{port}/")).await;
    assert_eq!(named, Err(FetchFault::NotPublic("localhost".into())));
    let answers = [&["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1"][..]];
    for policy in [OutboundPolicy::default(), allowing("other.example"), allowing("192.168.0.1")] {
        let client = Scripted::client(policy, &answers);
        let fault = client.get(&format!("https://idp.example:{port}/")).await;
        assert_eq!(fault, Err(FetchFault::NotPublic("idp.example".into())));
    }
    assert_eq!(site.connections(), 0);
}

#[tokio::test]
async fn t37_dev_reaches_loopback_by_its_own_names_only() {
    let site = Site::start().await;
    let port = site.address.port();
    let policy = OutboundPolicy { allow_private: Vec::new(), allow_http_loopback: true };
    let client = Scripted::client(policy, &[&["127.0.0.1"]]);
    let fault = client.get(&format!("https://idp.example:{port}/")).await;
    assert_eq!(fault, Err(FetchFault::NotPublic("idp.example".into())));
    let fault = client.get(&format!("http://idp.example:{port}/")).await.unwrap_err();
    assert!(matches!(fault, FetchFault::NotHttps(_)));
    assert_eq!(site.connections(), 0);
    assert_eq!(client.get(&format!("http://localhost:{port}/")).await, Err(FetchFault::Status(404)));
    assert_eq!(site.connections(), 1);
}

#[tokio::test]
async fn t37_dns_rebinding_is_caught_at_the_second_connection() {
    let site = Site::start().await;
    let url = format!("https://idp.example:{}/", site.address.port());
    // The first answer passes because it is listed; nothing listens there.
    let client = Scripted::client(allowing("127.0.0.2"), &[&["127.0.0.2"], &["127.0.0.1"]]);
    let first = client.get(&url).await.unwrap_err();
    assert!(matches!(first, FetchFault::Connect(_) | FetchFault::Timeout), "{first}");
    assert_eq!(client.get(&url).await, Err(FetchFault::NotPublic("idp.example".into())));
    assert_eq!(site.connections(), 0);
}

#[tokio::test]
async fn a_listed_host_or_address_may_be_private() {
    let site = Site::start().await;
    let port = site.address.port();
    for listed in ["idp.internal", "IDP.internal.", "127.0.0.1"] {
        let before = site.connections();
        let client = Scripted::client(allowing(listed), &[&["127.0.0.1"]]);
        let fault = client.get(&format!("https://idp.internal:{port}/")).await.unwrap_err();
        assert!(matches!(fault, FetchFault::Connect(_)), "TLS meets a plain server: {fault}");
        assert_eq!(site.connections(), before + 1, "{listed}");
    }
}

#[tokio::test]
async fn t37_a_redirect_is_not_followed() {
    let (site, target) = (Site::start().await, Site::start().await);
    for status in [301, 302, 303, 307, 308] {
        site.set("/x", Reply::new(status, &format!("location: {}\r\n", target.url("/y")), ""));
        assert_eq!(dev_client().get(&site.url("/x")).await, Err(FetchFault::Redirect), "{status}");
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_user_name_in_the_url_is_refused_and_not_shown() {
    for url in ["https://user:secret@idp.example/", "https://user@idp.example/", "/x", "", "https://"] {
        let fault = strict().get(url).await.unwrap_err();
        assert!(matches!(fault, FetchFault::BadUrl(_)), "{url}");
        assert!(!fault.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn jw_03_a_long_body_is_cut_off_whatever_its_length_says() {
    let site = Site::start().await;
    let fits = "x".repeat(MAX_BODY);
    site.set("/fits", Reply::new(200, "", &fits));
    assert_eq!(dev_client().get(&site.url("/fits")).await.unwrap().body.len(), MAX_BODY);
    site.set("/long", Reply::new(200, "", &format!("{fits}x")));
    let piece = format!("{MAX_BODY:x}\r\n{fits}\r\n");
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{piece}{piece}0\r\n\r\n");
    site.set("/chunked", Reply { bytes: chunked.into_bytes(), delay: Duration::ZERO });
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{fits}{fits}");
    site.set("/endless", Reply { bytes: endless.into_bytes(), delay: Duration::ZERO });
    for path in ["/long", "/chunked", "/endless"] {
        assert_eq!(dev_client().get(&site.url(path)).await, Err(FetchFault::TooLong), "{path}");
    }
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}";
    site.set("/short", Reply { bytes: short.into(), delay: Duration::ZERO });
    assert_eq!(dev_client().get(&site.url("/short")).await, Err(FetchFault::BrokenOff));
}

#[tokio::test]
async fn jw_03_a_slow_server_is_given_up() {
    let site = Site::start().await;
    site.set("/slow", Reply::new(200, "", "{}").slow(Duration::from_mins(1)));
    let began = std::time::Instant::now();
    assert_eq!(dev_client().get(&site.url("/slow")).await, Err(FetchFault::Timeout));
    assert!(began.elapsed() < TOTAL_TIMEOUT + Duration::from_secs(2));
}

#[tokio::test]
async fn other_answers_are_named() {
    let site = Site::start().await;
    assert_eq!(dev_client().get(&site.url("/none")).await, Err(FetchFault::Status(404)));
    let gone = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let fault = dev_client().get(&format!("http://{gone}/")).await.unwrap_err();
    assert!(matches!(fault, FetchFault::Connect(_)), "{fault}");
    let client = Scripted::client(OutboundPolicy::default(), &[&[]]);
    assert_eq!(client.get("https://idp.example/").await, Err(FetchFault::Unresolved("idp.example".into())));
}
