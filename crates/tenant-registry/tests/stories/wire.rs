//! A wire between a replica and Postgres that can fall silent, in one direction or both.

use std::path::PathBuf;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What does not arrive any more. Nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Nothing,
    Questions,
    Answers,
    Both,
}

pub(crate) struct Wire {
    loss: watch::Sender<Loss>,
    pub(crate) pool: PgPool,
}

impl Wire {
    /// Lays a wire to the database of `pool`.
    pub(crate) async fn to(pool: &PgPool) -> Self {
        let server = (*pool.connect_options()).clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(listener.local_addr().unwrap().port())
            .username(server.get_username())
            .database(server.get_database().unwrap())
            .ssl_mode(PgSslMode::Disable);
        let (loss, lossy) = watch::channel(Loss::Nothing);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), lossy.clone()));
            }
        });
        Self { loss, pool: PgPoolOptions::new().max_connections(4).connect_lazy_with(options) }
    }

    pub(crate) fn lose(&self, loss: Loss) {
        self.loss.send_replace(loss);
    }
}

async fn carry(client: TcpStream, server: PgConnectOptions, loss: watch::Receiver<Loss>) {
    let folder = server.get_socket().cloned().or_else(|| server.get_host().starts_with('/').then(|| PathBuf::from(server.get_host())));
    let (asks, hears) = client.into_split();
    match folder {
        Some(folder) => {
            let (answers, told) = UnixStream::connect(folder.join(format!(".s.PGSQL.{}", server.get_port()))).await.unwrap().into_split();
            both(asks, told, answers, hears, loss).await;
        }
        None => {
            let (answers, told) = TcpStream::connect((server.get_host(), server.get_port())).await.unwrap().into_split();
            both(asks, told, answers, hears, loss).await;
        }
    }
}

async fn both(
    asks: impl AsyncRead + Unpin,
    told: impl AsyncWrite + Unpin,
    answers: impl AsyncRead + Unpin,
    hears: impl AsyncWrite + Unpin,
    loss: watch::Receiver<Loss>,
) {
    tokio::select! {
        () = pass(asks, told, loss.clone(), Loss::Questions) => {}
        () = pass(answers, hears, loss, Loss::Answers) => {}
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, loss: watch::Receiver<Loss>, this: Loss) {
    let mut chunk = vec![0; 65536];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let lost = matches!(*loss.borrow(), lost if lost == this || lost == Loss::Both);
        if !lost && to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}
