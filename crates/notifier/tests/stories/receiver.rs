//! A receiver on loopback that answers as it is told, and remembers what came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use tokio::net::TcpListener;

/// How one call is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16),
    RetryAfter(u16, u64),
    Redirect(String),
    Hang,
    /// 200, and then more than anybody wants to read.
    Flood,
}

/// One call, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) timestamp: i64,
    pub(crate) signature: String,
    pub(crate) body: String,
}

impl Call {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Its type, and the tenant's name or nothing.
    pub(crate) fn about(&self) -> (String, String) {
        let json = self.json();
        (json["type"].as_str().unwrap().to_owned(), json["data"]["tenant"]["name"].as_str().unwrap_or_default().to_owned())
    }
}

#[derive(Default)]
struct Book {
    calls: Vec<Call>,
    /// Answers to come; then 200. The text chooses whose messages they answer.
    script: VecDeque<(String, Reply)>,
}

/// The receiver.
#[derive(Clone)]
pub(crate) struct Receiver {
    book: Arc<Mutex<Book>>,
    pub(crate) url: String,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?secret=in-the-address", listener.local_addr().unwrap());
        let receiver = Self { book: Arc::default(), url };
        let router = Router::new().fallback(answer).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    /// The next call whose body holds `part` is answered like this.
    pub(crate) fn will(&self, part: &str, reply: Reply) {
        self.book.lock().unwrap().script.push_back((part.to_owned(), reply));
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.book.lock().unwrap().calls.clone()
    }

    /// What has come, in its order.
    pub(crate) fn about(&self) -> Vec<(String, String)> {
        self.calls().iter().map(Call::about).collect()
    }

    /// Waits until so many calls have come.
    pub(crate) async fn has(&self, calls: usize) -> Vec<Call> {
        let enough = async {
            while self.calls().len() < calls {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), enough)
            .await
            .unwrap_or_else(|_| panic!("{calls} calls do not come: {:?}", self.about()));
        self.calls()
    }
}

async fn answer(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Response<Body> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let call = Call {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp").parse().unwrap_or_default(),
        signature: header("webhook-signature"),
        body: body.clone(),
    };
    let reply = {
        let mut book = receiver.book.lock().unwrap();
        book.calls.push(call);
        let at = book.script.iter().position(|(part, _)| body.contains(part.as_str()));
        at.and_then(|at| book.script.remove(at)).map_or(Reply::Status(200), |(_, reply)| reply)
    };
    let status = |status: u16| Response::builder().status(status);
    match reply {
        Reply::Status(code) => status(code).body(Body::from("words of the receiver")).unwrap(),
        Reply::RetryAfter(code, seconds) => status(code).header("retry-after", seconds).body(Body::empty()).unwrap(),
        Reply::Redirect(to) => status(302).header("location", to).body(Body::empty()).unwrap(),
        Reply::Hang => std::future::pending().await,
        Reply::Flood => status(200).body(Body::from(vec![b'x'; 50_000_000])).unwrap(),
    }
}
