//! A door between the sink and Postgres that can be shut, that can fall silent, and that can swallow the
//! answer to COMMIT.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[derive(Clone)]
pub(crate) struct Proxy {
    open: Arc<watch::Sender<bool>>,
    silent: Arc<watch::Sender<u32>>,
    swallow: Arc<AtomicU32>,
    port: u16,
}

impl Proxy {
    pub(crate) async fn in_front_of(server: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, silent) = (Arc::new(watch::channel(true).0), Arc::new(watch::channel(0).0));
        let proxy = Self { open, silent, swallow: Arc::default(), port };
        let (this, server) = (proxy.clone(), server.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (this, server) = (this.clone(), server.clone());
                tokio::spawn(async move { this.carry(client, &server).await });
            }
        });
        proxy
    }

    /// A pool whose connections all go through this door.
    pub(crate) fn pool(&self, server: &PgConnectOptions) -> PgPool {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(server.get_username())
            .database(server.get_database().unwrap())
            .ssl_mode(PgSslMode::Disable);
        PgPoolOptions::new().max_connections(4).connect_lazy_with(options)
    }

    /// Breaks every connection and lets no new one through.
    pub(crate) fn shut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Connections of now stay open and carry nothing any more, as when a network swallows everything.
    pub(crate) fn fall_silent(&self) {
        self.silent.send_modify(|times| *times += 1);
    }

    /// The next `count` answers to COMMIT get lost: the server commits, the client hears nothing.
    pub(crate) fn swallow(&self, count: u32) {
        self.swallow.store(count, Ordering::SeqCst);
    }

    pub(crate) fn left_to_swallow(&self) -> u32 {
        self.swallow.load(Ordering::SeqCst)
    }

    async fn carry(&self, mut client: TcpStream, server: &PgConnectOptions) {
        let mut open = self.open.subscribe();
        if !*open.borrow_and_update() {
            return;
        }
        let mut silent = self.silent.subscribe();
        let mut upstream = connect(server).await;
        let (mut from_client, mut from_server) = (vec![0; 65536], vec![0; 65536]);
        loop {
            tokio::select! {
                _ = open.changed() => return,
                _ = silent.changed() => std::future::pending().await,
                read = client.read(&mut from_client) => {
                    let Ok(count @ 1..) = read else { return };
                    let chunk = &from_client[..count];
                    let lost = chunk.windows(7).any(|text| text == b"COMMIT\0")
                        && self.swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                    if upstream.write_all(chunk).await.is_err() {
                        return;
                    }
                    if lost {
                        // The answer proves that the server has committed; nobody else learns of it.
                        let _ = upstream.read(&mut from_server).await;
                        return;
                    }
                }
                read = upstream.read(&mut from_server) => {
                    let Ok(count @ 1..) = read else { return };
                    if client.write_all(&from_server[..count]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn connect(server: &PgConnectOptions) -> Box<dyn Stream> {
    let folder = server.get_socket().cloned().or_else(|| server.get_host().starts_with('/').then(|| PathBuf::from(server.get_host())));
    match folder {
        Some(folder) => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{}", server.get_port()))).await.unwrap()),
        None => Box::new(TcpStream::connect((server.get_host(), server.get_port())).await.unwrap()),
    }
}
