//! A connection pooler in transaction mode, at its smallest: one session of Postgres, which whoever has something to say
//! gets until his transaction is over. So nothing that a client sets up in "its" session is its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::frames::{Frames, asks_for_encryption, says_idle};
use super::{Server, through};

/// The pooler. Dropping it ends it.
#[derive(Debug)]
pub struct Pooler {
    address: SocketAddr,
    running: JoinHandle<()>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The one session, and what Postgres said when it began.
struct Session {
    server: Option<Box<dyn Stream>>,
    at: Server,
    greeting: Vec<u8>,
}

impl Pooler {
    /// Puts a pooler in front of the server that `url` names. It must let the login in without a password.
    ///
    /// # Errors
    /// When the URL cannot be read, or no port is free.
    pub async fn start(url: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for the pooler")?;
        let address = listener.local_addr()?;
        let session = Arc::new(Mutex::new(Session { server: None, at: Server::named_by(url)?, greeting: Vec::new() }));
        let running = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // However a client ends, its connection is closed: that is all there is to do.
                let session = session.clone();
                tokio::spawn(async move { serve(client, &session).await });
            }
        });
        Ok(Self { address, running })
    }

    /// The URL of a database on the same server through this pooler, given the direct one.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn url(&self, direct: &str) -> anyhow::Result<String> {
        through(self.address, direct)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn serve(mut client: TcpStream, session: &Mutex<Session>) -> io::Result<()> {
    let mut frames = Frames::default();
    let start_up = loop {
        match frames.start_up() {
            Some(wish) if asks_for_encryption(&wish) => client.write_all(b"N").await?,
            Some(start_up) => break start_up,
            None => more(&mut client, &mut frames).await?,
        }
    };
    let greeting = session.lock().await.greeting(&start_up).await?;
    client.write_all(&greeting).await?;
    loop {
        let message = loop {
            match frames.next() {
                Some(message) => break message,
                None => more(&mut client, &mut frames).await?,
            }
        };
        if message.first() == Some(&b'X') {
            return Ok(());
        }
        session.lock().await.transaction(&mut client, &mut frames, message).await?;
    }
}

impl Session {
    async fn greeting(&mut self, start_up: &[u8]) -> io::Result<Vec<u8>> {
        if self.server.is_none() {
            let mut server: Box<dyn Stream> = match &self.at {
                Server::Socket(path) => Box::new(UnixStream::connect(path).await?),
                Server::Address(host, port) => Box::new(TcpStream::connect((host.as_str(), *port)).await?),
            };
            server.write_all(start_up).await?;
            let mut frames = Frames::default();
            loop {
                match frames.next() {
                    Some(message) => {
                        self.greeting.extend(&message);
                        if says_idle(&message) {
                            break;
                        }
                    }
                    None => more(&mut server, &mut frames).await?,
                }
            }
            self.server = Some(server);
        }
        Ok(self.greeting.clone())
    }

    /// Passes on what client and server say, from this message to the end of the transaction.
    async fn transaction(&mut self, client: &mut TcpStream, asked: &mut Frames, first: Vec<u8>) -> io::Result<()> {
        let server = self.server.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let (mut answered, mut unanswered) = (Frames::default(), 0);
        let mut message = Some(first);
        loop {
            while let Some(asking) = message.take().or_else(|| asked.next()) {
                unanswered += usize::from(matches!(asking.first(), Some(b'Q' | b'S')));
                server.write_all(&asking).await?;
            }
            while let Some(answer) = answered.next() {
                unanswered -= usize::from(answer.first() == Some(&b'Z'));
                client.write_all(&answer).await?;
                if says_idle(&answer) && unanswered == 0 {
                    return Ok(());
                }
            }
            tokio::select! {
                more = more(client, asked) => more?,
                more = more(server, &mut answered) => more?,
            }
        }
    }
}

async fn more(from: &mut (impl AsyncRead + Unpin), frames: &mut Frames) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    match from.read(&mut buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => {
            frames.push(&buffer[..length]);
            Ok(())
        }
    }
}
