//! I19: an access token goes to the configured origin and nowhere else, whatever a page says.

use domain::{Audience, Source};
use microsoft::{ApiErrorKind, HttpSettings, PageQuery};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::common::{TENANT, access_token, alerts, app, jwt, lab, refresh_token, sign_in, window};

async fn page_with_link(server: &MockServer, link: &str) {
    server.reset().await;
    let link = link.replace('\\', "\\\\").replace('"', "\\\"");
    let body = format!(r#"{{"value":[{{"id":"1"}}],"@odata.nextLink":"{link}"}}"#);
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_string(body)).mount(server).await;
}

#[tokio::test]
async fn fault_19_a_link_to_another_server_is_refused_and_never_called() {
    let (ours, evil) = (MockServer::start().await, MockServer::start().await);
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_string(r#"{"value":[]}"#)).mount(&evil).await;
    let (host, port) = (format!("127.0.0.1:{}", evil.address().port()), evil.address().port());
    let our_host = format!("127.0.0.1:{}", ours.address().port());
    let api = alerts(HttpSettings::default());
    for link in [
        format!("http://{host}/x"),
        format!("https://{host}/x"),
        format!("//{host}/x"),
        format!("\\\\{host}\\x"),
        format!("http://{our_host}@{host}/x"),
        format!("http://{host}#@{our_host}/x"),
        format!("http://{host}\\@{our_host}/x"),
        format!("http://{host}?@{our_host}/x"),
        format!("http://localhost:{port}/x"),
        format!("http://localhost:{}/x", ours.address().port()),
        format!("http://127.1:{port}/x"),
        format!("http://2130706433:{port}/x"),
        format!("http://0x7f000001:{port}/x"),
        format!("http://017700000001:{port}/x"),
        format!("http://[::ffff:127.0.0.1]:{port}/x"),
        format!("http://user:pass@{our_host}/x"),
        format!("https://{our_host}/x"),
        format!("ftp://{our_host}/x"),
    ] {
        page_with_link(&ours, &link).await;
        let page = api.fetch(&lab(&ours.uri()), Source::GraphAlerts, &access_token("t"), &window()).await.unwrap();
        assert!(page.next.is_none() && page.foreign_next, "{link}");
    }
    assert!(evil.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_link_that_stays_is_called_where_the_page_came_from() {
    let ours = MockServer::start().await;
    let api = alerts(HttpSettings::default());
    let our_host = format!("127.0.0.1:{}", ours.address().port());
    for (link, path) in [
        (format!("http://{our_host}/v1.0/next?$skip=5"), "/v1.0/next"),
        (format!("HTTP://{our_host}/v1.0/next"), "/v1.0/next"),
        ("/v1.0/next?x".to_owned(), "/v1.0/next"),
        (format!("http://{our_host}\\@evil.test/x"), "/@evil.test/x"),
        (format!("http://127.1:{}/x", ours.address().port()), "/x"),
    ] {
        page_with_link(&ours, &link).await;
        let page = api.fetch(&lab(&ours.uri()), Source::GraphAlerts, &access_token("t"), &window()).await.unwrap();
        api.fetch(&lab(&ours.uri()), Source::GraphAlerts, &access_token("t"), &PageQuery::Next(page.next.unwrap())).await.unwrap();
        assert_eq!(ours.received_requests().await.unwrap()[1].url.path(), path, "{link}");
    }
}

#[tokio::test]
async fn a_link_of_one_cloud_is_not_called_with_a_token_of_another() {
    let (one, other) = (MockServer::start().await, MockServer::start().await);
    page_with_link(&one, &format!("{}/next", one.uri())).await;
    let api = alerts(HttpSettings::default());
    let page = api.fetch(&lab(&one.uri()), Source::GraphAlerts, &access_token("t"), &window()).await.unwrap();
    let next = PageQuery::Next(page.next.unwrap());
    let error = api.fetch(&lab(&other.uri()), Source::GraphAlerts, &access_token("t"), &next).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::ForeignNextLink);
    assert_eq!(one.received_requests().await.unwrap().len(), 1);
    assert!(other.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_takes_no_token_along() {
    let (ours, evil) = (MockServer::start().await, MockServer::start().await);
    let api = alerts(HttpSettings::default());
    for status in [301, 302, 303, 307, 308] {
        ours.reset().await;
        let template = ResponseTemplate::new(status).insert_header("location", format!("{}/x", evil.uri()));
        Mock::given(any()).respond_with(template).mount(&ours).await;
        let error = api.fetch(&lab(&ours.uri()), Source::GraphAlerts, &access_token("t"), &window()).await.unwrap_err();
        assert_eq!(error.kind(), ApiErrorKind::BadAnswer, "{status}");
    }
    assert!(evil.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_sign_in_service_never_sees_an_access_token() {
    let server = MockServer::start().await;
    let body = format!(r#"{{"access_token":"{}"}}"#, jwt(TENANT));
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_string(body)).mount(&server).await;
    sign_in(HttpSettings::default()).redeem(&lab(&server.uri()), &app(), TENANT, Audience::Graph, &refresh_token("r"), None).await.unwrap();
    assert!(!server.received_requests().await.unwrap()[0].headers.contains_key("authorization"));
}

#[test]
fn one_function_writes_the_header() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.clone()];
    let mut writers = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let count = [".header(AUTHORIZATION", "\"authorization\"", "bearer_auth", "basic_auth"]
                .iter()
                .map(|word| text.matches(word).count())
                .sum::<usize>();
            writers.extend((count > 0).then(|| (path.strip_prefix(&source).unwrap().to_owned(), count)));
        }
    }
    assert_eq!(writers, [("http.rs".into(), 1)]);
}
