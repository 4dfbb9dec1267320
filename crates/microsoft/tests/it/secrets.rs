//! I13: no secret and no alert text in any error or log line, at any level.

use std::io::Write;
use std::sync::{Arc, Mutex};

use domain::{AppCredential, Audience, ClientAssertion, Source, TenantId};
use microsoft::HttpSettings;
use tracing_subscriber::fmt::MakeWriter;

use crate::common::{RawServer, TENANT, access_token, alerts, answer, app, client_secret, jwt, lab, refresh_token, sign_in, window};

const MARKER: &str = "mark3r";

/// Collects every log line of this thread, of every crate, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(self.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Whatever goes wrong, each with a body full of markers.
fn answers() -> Vec<Vec<u8>> {
    let oauth = format!(
        r#"{{"error":"invalid_grant","error_description":"AADSTS70008: {MARKER} @contoso.test","error_codes":[70008],"trace_id":"{MARKER} x","claims":"{MARKER}",
           "suberror":"{MARKER} y","correlation_id":"{MARKER}\n","timestamp":"{MARKER} \u0000","access_token":"{MARKER}"}}"#
    );
    let graph = format!(
        r#"{{"error":{{"code":"{MARKER} code","message":"{MARKER}","innerError":{{"code":"{MARKER}!","request-id":"{MARKER} z"}}}}}}"#
    );
    let wrong_tenant =
        format!(r#"{{"access_token":"{}","refresh_token":"{MARKER}","id_token":"{MARKER}"}}"#, jwt(TenantId(uuid::Uuid::nil())));
    let unreadable = format!(r#"{{"access_token":"{MARKER}.{MARKER}.{MARKER}","refresh_token":"{MARKER}"}}"#);
    let link = format!(r#"{{"value":[{{"id":"{MARKER}"}}],"@odata.nextLink":"https://{MARKER}.test/{MARKER}"}}"#);
    let poison = format!(r#"{{"value":[{{"id":"1","title":"{MARKER}"}},{{"{MARKER}":1}}],"@odata.nextLink":null}}"#);
    let headers =
        format!("request-id: {MARKER} and blanks\r\nWWW-Authenticate: Bearer realm=\"{MARKER}\"\r\nLocation: http://{MARKER}.test/\r\n");
    let mut answers = Vec::new();
    for status in ["200 OK", "302 Found", "400 Bad", "401 No", "403 No", "404 No", "410 Gone", "429 Slow", "500 Oh", "503 Oh"] {
        for body in [&oauth, &graph, &wrong_tenant, &unreadable, &link, &poison, &format!("<html>{MARKER}"), &format!("{{\"{MARKER}")] {
            answers.push(answer(status, &headers, body));
        }
    }
    let broken = answers[0][..answers[0].len() - 9].to_vec();
    answers.extend([broken, format!("{MARKER} is no http").into_bytes()]);
    answers
}

#[tokio::test]
async fn no_marker_is_found_in_any_error_or_log_line() {
    let log = Log::default();
    let _listening = log.listen();
    // One client for all: it is the making that takes its time, and a pool hides nothing.
    let (sign_in, alerts) = (sign_in(HttpSettings::default()), alerts(HttpSettings::default()));
    let app = app();
    let (refresh, secret, access) = (refresh_token(MARKER), client_secret(&format!("{MARKER}+/=")), access_token(MARKER));
    let federated = AppCredential::Federated(ClientAssertion::new(MARKER).unwrap());
    let (mut errors, mut pages) = (0, 0);
    for answer in answers() {
        let server = RawServer::answering(answer).await;
        let cloud = lab(&server.url);
        for audience in [Audience::Graph, Audience::Defender] {
            let Err(error) = sign_in.redeem(&cloud, &app, TENANT, audience, &refresh, Some(&secret)).await else {
                panic!("no answer is good")
            };
            assert!(!format!("{error} {error:?} {error:#?} {:?}", error.trouble()).contains(MARKER), "{error:?}");
            errors += 1;
        }
        for credential in [&secret, &federated] {
            let Err(error) = sign_in.client_credentials(&cloud, &app, TENANT, Audience::Graph, credential).await else {
                panic!("no answer is good")
            };
            assert!(!format!("{error} {error:?}").contains(MARKER), "{error:?}");
        }
        for source in [Source::GraphAlerts, Source::MdeAlerts] {
            match alerts.fetch(&cloud, source, &access, &window()).await {
                Ok(page) => pages += page.records.len(),
                Err(error) => assert!(!format!("{error} {error:?} {error:#?} {:?}", error.trouble()).contains(MARKER), "{error:?}"),
            }
        }
    }
    assert_eq!((errors, pages), (164, 6), "the markers were there to be found");
    let text = log.text();
    assert!(text.contains("the sign-in service answered") && text.contains("hyper"), "the log was listened to");
    let line = text.lines().find(|line| line.contains(MARKER));
    assert_eq!(line, None);
}

#[tokio::test]
async fn a_good_answer_prints_as_nothing() {
    let log = Log::default();
    let _listening = log.listen();
    let body = format!(r#"{{"access_token":"{}","refresh_token":"{MARKER}","expires_in":"3600"}}"#, jwt(TENANT));
    let server = RawServer::answering(answer("200 OK", "", body)).await;
    let redeemed = sign_in(HttpSettings::default())
        .redeem(&lab(&server.url), &app(), TENANT, Audience::Graph, &refresh_token(MARKER), None)
        .await
        .unwrap();
    let payload = jwt(TENANT).split('.').nth(1).unwrap().to_owned();
    let printed = format!("{redeemed:?} {redeemed:#?} {}", log.text());
    assert!(!printed.contains(MARKER) && !printed.contains(&payload), "{printed}");
}
