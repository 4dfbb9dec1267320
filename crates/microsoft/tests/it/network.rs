//! Faults between us and Microsoft: names, connections, certificates and proxies.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use domain::{Audience, Source, Verdict};
use microsoft::{ApiErrorKind, Cloud, HttpSettings, Page};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};

use crate::common::{RawServer, TENANT, access_token, alerts, answer, app, lab, read_request, refresh_token, sign_in, window};
use crate::tls::{Authority, H2Server, PhoneBook, TlsServer};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const HOST: &str = "graph.example.test";

fn page() -> Vec<u8> {
    answer("200 OK", "", r#"{"value":[{"id":"1"}]}"#)
}

fn cloud() -> Cloud {
    lab(&format!("https://{HOST}"))
}

/// What the API's reader and the sign-in say about it. Both must say that it passes, and neither where.
async fn refused_by_both(settings: HttpSettings, cloud: &Cloud, code: &str) -> String {
    let error = alerts(settings.clone()).fetch(cloud, Source::GraphAlerts, &access_token("t"), &window()).await.unwrap_err();
    assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::Unavailable, Verdict::Retry), "{error}");
    assert_eq!(error.trouble().code.as_deref(), Some(code), "{error}");
    let trouble = error.trouble();
    let error = sign_in(settings).redeem(cloud, &app(), TENANT, Audience::Graph, &refresh_token("r"), None).await.unwrap_err();
    assert_eq!((error.trouble().verdict, error.is_dead_token()), (Verdict::Retry, false), "{error}");
    let said = format!("{} {} {error} {}", trouble.reason, trouble.action, error.trouble().action);
    assert!(!said.contains(HOST) && !said.contains("127.0.0"), "{said}");
    said
}

async fn fetch(settings: HttpSettings, cloud: &Cloud) -> Result<Page, microsoft::ApiError> {
    alerts(settings).fetch(cloud, Source::GraphAlerts, &access_token("t"), &window()).await
}

#[tokio::test]
async fn fault_02_a_connection_that_nobody_accepts_is_given_up() {
    // A queue of one that is full: the machine itself lets every further call wait.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((HERE, 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(250), tokio::net::TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 100, "the queue never fills");
    }
    let settings = HttpSettings { connect_timeout: Duration::from_millis(200), ..HttpSettings::default() };
    let began = tokio::time::Instant::now();
    let error = fetch(settings.clone(), &lab(&format!("http://{address}"))).await.unwrap_err();
    assert!(began.elapsed() < settings.page_timeout / 4, "the connection has a bound of its own");
    assert_eq!((error.kind(), error.trouble().code.as_deref()), (ApiErrorKind::Unavailable, Some("timeout")), "{error}");
}

#[tokio::test]
async fn fault_03_a_name_that_is_not_found_says_what_to_look_at() {
    let said = refused_by_both(PhoneBook::default().settings(), &cloud(), "unreachable").await;
    assert!(said.contains("no such name") && said.contains("DNS"), "{said}");
}

#[tokio::test]
async fn fault_04_a_name_that_moves_is_followed_and_one_that_leads_to_a_stranger_gets_no_token() {
    let (authority, names) = (Authority::new(), PhoneBook::default());
    let old = TlsServer::answering(authority.issue(HOST, 2999), page()).await;
    names.write(HOST, old.address);
    let api = alerts(authority.trusted(&names));
    let (cloud, token, window) = (cloud(), access_token("t"), window());
    let fetch = || api.fetch(&cloud, Source::GraphAlerts, &token, &window);
    fetch().await.unwrap();
    assert_eq!((old.requests(), names.asked()), (1, 1));

    // The service moves: its old place is empty, and the same client finds the new one.
    old.stop().await;
    let new = TlsServer::answering(authority.issue(HOST, 2999), page()).await;
    names.write(HOST, new.address);
    fetch().await.unwrap();
    assert_eq!((new.requests(), names.asked()), (1, 2), "the name is looked up for every new connection");

    // Somebody else answers under the name, with the best certificate he can get.
    let stranger = TlsServer::answering(authority.issue("stranger.example.test", 2999), page()).await;
    names.write(HOST, stranger.address);
    let error = fetch().await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Unavailable);
    assert_eq!((stranger.requests(), new.requests()), (0, 1), "no token went there");
}

#[tokio::test]
async fn fault_05_an_expired_certificate_is_refused_and_named() {
    let (authority, names) = (Authority::new(), PhoneBook::default());
    let server = TlsServer::answering(authority.issue(HOST, 2021), page()).await;
    names.write(HOST, server.address);
    let said = refused_by_both(authority.trusted(&names), &cloud(), "unreachable").await;
    assert!(said.to_lowercase().contains("expired") && said.contains("certificates"), "{said}");
    assert_eq!(server.requests(), 0, "nothing is sent to it");
}

#[tokio::test]
async fn fault_06_a_certificate_for_another_name_is_refused() {
    let (authority, names) = (Authority::new(), PhoneBook::default());
    let server = TlsServer::answering(authority.issue("other.example.test", 2999), page()).await;
    names.write(HOST, server.address);
    let said = refused_by_both(authority.trusted(&names), &cloud(), "unreachable").await;
    assert!(said.contains("certificate not valid for this name") && !said.contains("other.example.test"), "{said}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn fault_07_an_authority_that_nobody_knows_is_refused() {
    let (ours, theirs, names) = (Authority::new(), Authority::new(), PhoneBook::default());
    let server = TlsServer::answering(theirs.issue(HOST, 2999), page()).await;
    names.write(HOST, server.address);
    for settings in [names.settings(), ours.trusted(&names)] {
        let said = refused_by_both(settings, &cloud(), "unreachable").await;
        assert!(said.contains("certificate"), "{said}");
    }
    assert_eq!(server.requests(), 0);
    // And it is the certificate alone that was wrong.
    fetch(theirs.trusted(&names), &cloud()).await.unwrap();
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn fault_08_a_connection_reset_within_the_head_is_no_answer() {
    let server = RawServer::resetting(&b"HTTP/1.1 200 OK\r\nContent-Le"[..]).await;
    refused_by_both(HttpSettings::default(), &lab(&server.url), "unreachable").await;
    assert_eq!(server.requests(), 2, "one call each: nothing is retried behind the caller's back");
}

#[tokio::test]
async fn fault_09_a_page_cut_short_by_a_reset_is_no_page() {
    let whole = page();
    let server = RawServer::resetting(&whole[..whole.len() - 4]).await;
    let said = refused_by_both(HttpSettings::default(), &lab(&server.url), "broke-off").await;
    assert!(said.contains("broke off"), "{said}");
    assert_eq!(server.requests(), 2);
}

/// A proxy that answers every CONNECT with these bytes. What it was sent is told to nobody but the test.
async fn proxy(answer: &'static [u8]) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let url = format!("http://user:MARKER@{}", listener.local_addr().unwrap());
    let (sender, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = sender.send(String::from_utf8(read_request(&mut stream).await).unwrap());
            let _ = stream.write_all(answer).await;
        }
    });
    (url, heard)
}

const SAID: &str = "said: ";

/// Run as it is, it finds that a name does not exist. Run by `fault_72` in a process with a proxy, it finds the proxy.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "`fault_72` reads it")]
async fn an_api_that_cannot_be_reached_is_told_in_words() {
    let settings = HttpSettings { system_proxy: true, ..PhoneBook::default().settings() };
    let error = fetch(settings.clone(), &cloud()).await.unwrap_err();
    assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::Unavailable, Verdict::Retry), "{error}");
    println!("{SAID}{error} - {}", error.trouble().action);
    let error = sign_in(settings).redeem(&cloud(), &app(), TENANT, Audience::Graph, &refresh_token("r"), None).await.unwrap_err();
    assert_eq!(error.trouble().verdict, Verdict::Retry, "{error}");
    println!("{SAID}{error} - {}", error.trouble().action);
}

#[tokio::test]
async fn fault_72_a_proxy_that_blocks_us_is_named() {
    // An address that is taken, where nobody listens.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind((HERE, 0).into()).unwrap();
    let closed = format!("http://{}", taken.local_addr().unwrap());
    for (answer, words) in [
        (Some(&b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"[..]), "the proxy of this host refuses to connect us"),
        (Some(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"), "the proxy of this host wants a user name and a password"),
        (Some(b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>"), "the proxy of this host refuses to connect us"),
        (Some(b""), "the proxy of this host broke off"),
        (None, "the proxy of this host cannot be reached itself"),
    ] {
        let (url, heard) = match answer {
            Some(answer) => proxy(answer).await,
            None => (closed.clone(), tokio::sync::mpsc::unbounded_channel().1),
        };
        let story = format!("{}::an_api_that_cannot_be_reached_is_told_in_words", module_path!().split_once("::").unwrap().1);
        let program = std::env::current_exe().unwrap();
        let ended = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(program);
            for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
                command.env_remove(name).env_remove(name.to_lowercase());
            }
            command.env("HTTPS_PROXY", url).args([&story, "--exact", "--nocapture"]).output().unwrap()
        });
        let ended = ended.await.unwrap();
        let output = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success(), "{output} {}", String::from_utf8_lossy(&ended.stderr));
        let said: Vec<_> = output.lines().filter_map(|line| line.split_once(SAID)).map(|(_, said)| said).collect();
        assert_eq!(said.len(), 2, "{output}");
        for said in said {
            assert!(said.contains(words) && said.contains("HTTPS_PROXY") && said.contains("code proxy"), "{said}");
            assert!(!said.contains("MARKER") && !said.contains("127.0.0.1"), "{said}");
        }
        let mut heard = heard;
        let mut calls = 0;
        while let Ok(head) = heard.try_recv() {
            assert!(head.starts_with(&format!("CONNECT {HOST}:443 ")) && !head.contains("Bearer"), "{head}");
            calls += 1;
        }
        assert_eq!(calls, if answer.is_some() { 2 } else { 0 });
    }
}

#[tokio::test]
async fn a_host_that_is_not_connected_is_called_by_a_few_first_and_then_one_connection_of_http_2_serves_all() {
    let (authority, names) = (Authority::new(), PhoneBook::default());
    let server = H2Server::answering(authority.issue(HOST, 2999), r#"{"value":[{"id":"1"}]}"#, Duration::from_millis(100)).await;
    names.write(HOST, server.address);
    let api = alerts(authority.trusted(&names));
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let api = api.clone();
            calls.spawn(async move {
                api.fetch(&cloud(), Source::GraphAlerts, &access_token("t"), &window()).await.map(|page| page.records.len())
            });
        }
        assert!(calls.join_all().await.into_iter().all(|records| records.is_ok_and(|records| records == 1)));
        connections.push(server.connections());
    }
    assert!(connections[0] <= 4, "{} connections for 64 calls", connections[0]);
    assert_eq!(connections[0], connections[1], "and none for 64 more");
}
