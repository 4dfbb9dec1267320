//! The ops endpoint as a probe sees it: over a socket, with stages that come to life, falter and die.
#![expect(clippy::unwrap_used, reason = "a story ends where something is not as it was told")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use console::{OpsState, ops_router, recorder, serve};
use domain::clock::ManualClock;
use domain::health::{Stage, StageStatus};
use domain::{Clock, Ticks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const STAGES: [Stage; 4] = [Stage::Registry, Stage::Refresher, Stage::Poller, Stage::Sink];

struct World {
    address: SocketAddr,
    clock: ManualClock,
    stages: Vec<watch::Sender<StageStatus>>,
    stop: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

impl World {
    async fn new() -> Self {
        let clock = ManualClock::at(Ticks(17_900_000_000_000_000));
        let (stages, watched): (Vec<_>, Vec<_>) =
            STAGES.map(|_| watch::channel(StageStatus::faulty(clock.now(), "starting"))).into_iter().unzip();
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || metrics::counter!(domain::metric::GAPS, "source" => "graph-alerts").increment(2));
        let state = OpsState::new(STAGES.into_iter().zip(watched).collect(), Arc::new(clock.clone()), handle);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, ops_router(state), stop.clone()));
        Self { address, clock, stages, stop, served }
    }

    /// All stages go round and do their job.
    fn all_well(&self) {
        for stage in &self.stages {
            stage.send_replace(StageStatus::well(self.clock.now()));
        }
    }

    fn says(&self, stage: Stage, status: StageStatus) {
        let at = STAGES.iter().position(|known| *known == stage).unwrap();
        self.stages[at].send_replace(status);
    }

    /// Status, headers and body of an answer.
    async fn get(&self, path: &str, header: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn status(&self, path: &str) -> u16 {
        self.get(path, "").await.0
    }
}

#[tokio::test]
async fn a_starting_daemon_is_alive_and_not_ready_and_start_up_is_over_once_each_stage_runs() {
    let world = World::new().await;
    assert_eq!(world.status("/livez").await, 200);
    let (status, _, body) = world.get("/readyz", "").await;
    assert_eq!(status, 503);
    assert!(body.starts_with("not ready\nregistry: starting\n"), "{body}");
    assert_eq!(world.status("/startupz").await, 503);

    for stage in [Stage::Registry, Stage::Refresher, Stage::Poller] {
        world.says(stage, StageStatus::well(world.clock.now()));
    }
    assert_eq!(world.status("/startupz").await, 503, "one has said nothing yet");
    world.says(Stage::Sink, StageStatus::faulty(world.clock.now(), "the database went away at once"));
    assert_eq!(world.status("/startupz").await, 200, "another start would not find another database");
    assert_eq!(world.status("/readyz").await, 503);

    world.all_well();
    let (status, _, body) = world.get("/readyz", "").await;
    assert_eq!((status, body.as_str()), (200, "ready\nregistry: ok\nrefresher: ok\npoller: ok\nsink: ok\n"));

    world.says(Stage::Sink, StageStatus::faulty(world.clock.now(), "the database cannot be reached"));
    assert_eq!(world.status("/readyz").await, 503);
    assert_eq!(world.status("/livez").await, 200, "a restart would not bring the database back");
}

#[tokio::test]
async fn a_refused_app_is_told_and_takes_no_replica_out_of_service() {
    let world = World::new().await;
    world.all_well();
    let refused = "app main in cloud global: the client secret has expired";
    world.says(Stage::Refresher, StageStatus::well(world.clock.now()).remarking(Some(refused.to_owned())));
    for path in ["/startupz", "/livez", "/readyz"] {
        let (status, _, body) = world.get(path, "").await;
        assert_eq!(status, 200, "{path}");
        assert!(body.contains(&format!("refresher: ok, but {refused}\n")), "{path}: {body}");
    }
    let (_, _, body) = world.get("/readyz?format=json", "").await;
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&answer["stages"][1]["ready"], &answer["stages"][1]["remark"]), (&true.into(), &refused.into()));
}

#[tokio::test]
async fn a_stage_that_falls_silent_is_named_and_the_process_is_not_alive() {
    let world = World::new().await;
    world.all_well();
    world.clock.advance(Duration::from_secs(31));
    for stage in [Stage::Registry, Stage::Refresher, Stage::Sink] {
        world.says(stage, StageStatus::well(world.clock.now()));
    }
    for path in ["/livez", "/readyz"] {
        let (status, _, body) = world.get(path, "").await;
        assert_eq!(status, 503, "{path}");
        assert!(body.contains("poller: no sign of life for 31 s\n") && body.contains("sink: ok\n"), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_stage_whose_task_is_gone_is_not_ready_at_once() {
    let mut world = World::new().await;
    world.all_well();
    drop(world.stages.pop());
    let (status, _, body) = world.get("/readyz", "").await;
    assert_eq!(status, 503);
    assert!(body.contains("sink: the stage has ended\n"), "{body}");
}

#[tokio::test]
async fn answers_come_as_json_when_asked_and_are_never_cached() {
    let world = World::new().await;
    world.all_well();
    world.says(Stage::Poller, StageStatus::faulty(world.clock.now(), "a \"quoted\" reason"));
    for (path, header) in [("/readyz?format=json", ""), ("/readyz", "accept: text/html;q=0.1, Application/JSON;q=0.9\r\n")] {
        let (status, head, body) = world.get(path, header).await;
        assert_eq!(status, 503);
        assert!(head.contains("content-type: application/json") && head.contains("cache-control: no-store"), "{head}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["ok"], false);
        assert_eq!(answer["stages"][2]["stage"], "poller");
        assert_eq!(answer["stages"][2]["reason"], "a \"quoted\" reason");
        assert_eq!(answer["stages"][0]["ready"], true);
    }
    for (path, header) in
        [("/readyz?format=text", "accept: application/json\r\n"), ("/readyz?format=%FF&x", ""), ("/readyz", "accept: */*\r\n")]
    {
        let (_, head, body) = world.get(path, header).await;
        assert!(head.contains("content-type: text/plain") && body.starts_with("not ready\n"), "{path} {header}: {head}");
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let world = World::new().await;
    let (status, head, body) = world.get("/metrics", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("tocsin_gap_total{source=\"graph-alerts\"} 2"), "{body}");
    assert!(body.lines().all(|line| line.is_empty() || line.starts_with('#') || line.starts_with("tocsin_")), "{body}");
}

#[tokio::test]
async fn an_unknown_path_is_told_which_ones_there_are() {
    let world = World::new().await;
    for path in ["/", "/healthz", "/metrics/"] {
        let (status, _, body) = world.get(path, "").await;
        assert_eq!(status, 404, "{path}");
        assert!(body.contains(path) && body.contains("/livez, /readyz, /startupz and /metrics"), "{body}");
    }
    let (status, _, body) = world.get(&format!("/{}", "x".repeat(5000)), "").await;
    assert!(status == 404 && body.len() < 300);
}

#[tokio::test]
async fn the_stop_does_not_wait_for_a_client_who_never_finishes() {
    let world = World::new().await;
    let mut dawdler = TcpStream::connect(world.address).await.unwrap();
    dawdler.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    assert_eq!(world.status("/livez").await, 200);
    world.stop.cancel();
    tokio::time::timeout(Duration::from_secs(3), world.served).await.unwrap().unwrap().unwrap();
}
