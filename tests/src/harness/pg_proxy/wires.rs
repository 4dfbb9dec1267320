//! The connections of the proxy: one task each, with two pumps in it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use super::frames::{Frames, Statements, asks_for_encryption, says_committed, says_idle};
use super::{Loss, Server, Shared};

/// Lets connections in until the task is ended; each ends with the proxy.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, gone: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        // A client that is cut must see a reset and not a polite end; where the system refuses that, an end will do.
        let _ = client.set_zero_linger();
        let _ = client.set_nodelay(true);
        let (wire, mut gone) = (Wire { shared: shared.clone() }, gone.clone());
        tokio::spawn(async move {
            // However it ends, both sides are closed: that is all there is to do.
            tokio::select! {
                _ = gone.wait_for(|gone| *gone) => {}
                _ = wire.connect(client) => {}
            }
        });
    }
}

struct Wire {
    shared: Arc<Shared>,
}

impl Wire {
    async fn connect(&self, client: TcpStream) -> io::Result<()> {
        match &self.shared.server {
            Server::Socket(path) => self.pass(client, UnixStream::connect(path).await?).await,
            Server::Address(host, port) => self.pass(client, TcpStream::connect((host.as_str(), *port)).await?).await,
        }
    }

    async fn pass(&self, client: TcpStream, server: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = tokio::io::split(server);
        let statements = Mutex::new(Statements::default());
        tokio::select! {
            done = self.requests(from_client, &to_client, to_server, &statements) => done,
            done = self.answers(from_server, &to_client, &statements) => done,
        }
    }

    /// What the client says.
    async fn requests(
        &self,
        mut client: impl AsyncRead + Unpin,
        to_client: &tokio::net::tcp::OwnedWriteHalf,
        mut server: impl AsyncWrite + Unpin,
        statements: &Mutex<Statements>,
    ) -> io::Result<()> {
        let mut frames = Frames::default();
        let mut started = false;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = client.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            frames.push(&buffer[..length]);
            let mut outgoing = Vec::new();
            loop {
                let message = if started { frames.next() } else { frames.start_up() };
                let Some(message) = message else { break };
                if started {
                    statements.lock().unwrap_or_else(PoisonError::into_inner).note(&message);
                } else if asks_for_encryption(&message) {
                    to_client.writable().await?;
                    to_client.try_write(b"N")?;
                    continue;
                } else {
                    started = true;
                }
                outgoing.extend(message);
            }
            server.write_all(&outgoing).await?;
        }
    }

    /// What the server says.
    async fn answers(
        &self,
        mut server: impl AsyncRead + Unpin,
        to_client: &tokio::net::tcp::OwnedWriteHalf,
        statements: &Mutex<Statements>,
    ) -> io::Result<()> {
        let mut frames = Frames::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = server.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            frames.push(&buffer[..length]);
            let mut outgoing = Vec::new();
            while let Some(message) = frames.next() {
                match self.loss_of(&message, statements) {
                    None => outgoing.extend(message),
                    Some(Loss::Cut) => return Ok(()),
                    Some(Loss::Silence) => return silence(&mut server).await,
                }
            }
            send(to_client, &outgoing).await?;
        }
    }

    /// What becomes of this answer, if it is not to get through.
    fn loss_of(&self, message: &[u8], statements: &Mutex<Statements>) -> Option<Loss> {
        let about = &mut statements.lock().unwrap_or_else(PoisonError::into_inner).current;
        let loss = if says_committed(message) { self.shared.swallows(about) } else { None };
        if says_idle(message) {
            about.clear();
        }
        loss
    }
}

/// Takes what the server still says and passes nothing on, until it hangs up.
async fn silence(server: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    tokio::io::copy(server, &mut tokio::io::sink()).await.map(drop)
}

async fn send(client: &tokio::net::tcp::OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        client.writable().await?;
        match client.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
