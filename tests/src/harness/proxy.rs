//! A door in front of Postgres or of the pretend Microsoft that misbehaves as networks do: it breaks connections,
//! refuses or swallows new ones, carries one direction only, is slow, and loses the answer to COMMIT.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where a door leads.
#[derive(Clone, Debug)]
pub enum Target {
    /// An address.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How the door is now.
#[derive(Clone, Debug)]
struct Weather {
    /// Connections older than this are broken.
    generation: u64,
    shut: bool,
    to_server: bool,
    to_client: bool,
    delay: Duration,
    target: Target,
}

#[derive(Debug)]
struct Shared {
    weather: watch::Sender<Weather>,
    swallow: AtomicU32,
    swallowed: AtomicU32,
    carried: AtomicU64,
}

/// The door. It is open until told otherwise; dropping it closes it for good.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: Option<JoinHandle<()>>,
    /// Connections that fill the queue of a listener at which nobody answers.
    clog: Vec<std::net::TcpStream>,
    clogged: Option<TcpListener>,
}

impl Proxy {
    /// Opens a door to `target` on a free port of this machine.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn to(target: Target) -> anyhow::Result<Self> {
        let weather = Weather { generation: 0, shut: false, to_server: true, to_client: true, delay: Duration::ZERO, target };
        let shared = Shared {
            weather: watch::channel(weather).0,
            swallow: AtomicU32::new(0),
            swallowed: AtomicU32::new(0),
            carried: AtomicU64::new(0),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut proxy = Self { shared: Arc::new(shared), address, listener: None, clog: Vec::new(), clogged: None };
        proxy.admit(listener);
        Ok(proxy)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection of now; new ones get through.
    pub fn cut(&self) {
        self.shared.weather.send_modify(|weather| weather.generation += 1);
    }

    /// Breaks every connection, and new ones as soon as they come, until [`Proxy::clear`].
    pub fn shut(&self) {
        self.shared.weather.send_modify(|weather| {
            weather.generation += 1;
            weather.shut = true;
        });
    }

    /// Nothing gets through from the client to the server any more; nobody is told.
    pub fn lose_requests(&self) {
        self.shared.weather.send_modify(|weather| weather.to_server = false);
    }

    /// Nothing gets through from the server to the client any more; nobody is told.
    pub fn lose_answers(&self) {
        self.shared.weather.send_modify(|weather| weather.to_client = false);
    }

    /// Everything takes so much longer, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Good weather again: what was held back in a stalled direction is carried now. Does not undo
    /// [`Proxy::refuse`] and [`Proxy::clog`], which [`Proxy::listen_again`] does.
    pub fn clear(&self) {
        self.shared.weather.send_modify(|weather| {
            weather.shut = false;
            weather.to_server = true;
            weather.to_client = true;
            weather.delay = Duration::ZERO;
        });
    }

    /// The next `count` answers to COMMIT get lost: the server commits, the client hears nothing.
    pub fn swallow_commits(&self, count: u32) {
        self.shared.swallow.store(count, Ordering::SeqCst);
    }

    /// How many answers to COMMIT were lost so far.
    pub fn swallowed(&self) -> u32 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }

    /// How many bytes went from servers to clients so far.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }

    /// Connections from now on lead there.
    pub fn lead_to(&self, target: Target) {
        self.shared.weather.send_modify(|weather| weather.target = target);
    }

    /// Nobody listens any more: connecting is refused by the system, and what was connected breaks.
    pub fn refuse(&mut self) {
        self.cut();
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
    }

    /// Somebody listens, but the queue is full and nobody takes from it: connecting gets no answer at all.
    ///
    /// # Errors
    /// When the port is taken by somebody else.
    pub async fn clog(&mut self) -> anyhow::Result<()> {
        self.refuse();
        if let Some(listener) = self.listener.take() {
            let _ = listener.await;
        }
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        super::eventually("the port is free", Duration::from_secs(5), async || socket_bind(&socket, self.address)).await?;
        self.clogged = Some(socket.listen(1)?);
        // Two fit into a queue of one; the others would wait as long as the daemon does.
        for _ in 0..8 {
            let address = self.address;
            let filled =
                tokio::task::spawn_blocking(move || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))).await?;
            match filled {
                Ok(stream) => self.clog.push(stream),
                Err(_) => return Ok(()),
            }
        }
        anyhow::bail!("the queue of the listener never fills")
    }

    /// Listens again at the same address, after [`Proxy::refuse`] or [`Proxy::clog`].
    ///
    /// # Errors
    /// When the port is taken by somebody else.
    pub async fn listen_again(&mut self) -> anyhow::Result<()> {
        self.clog.clear();
        self.clogged = None;
        if self.listener.is_some() {
            return Ok(());
        }
        let listener = super::eventually("the port is free again", Duration::from_secs(10), async || {
            TcpListener::bind(self.address).await.map_err(|error| error.to_string())
        })
        .await
        .context("a door cannot be opened again")?;
        self.admit(listener);
        Ok(())
    }

    fn admit(&mut self, listener: TcpListener) {
        let shared = self.shared.clone();
        self.listener = Some(tokio::spawn(async move {
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    let _ = client.set_nodelay(true);
                    let shared = shared.clone();
                    tokio::spawn(async move { carry(client, &shared).await });
                }
            }
        }));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
    }
}

fn socket_bind(socket: &TcpSocket, address: SocketAddr) -> Result<(), String> {
    socket.bind(address).map_err(|error| error.to_string())
}

/// Carries one connection until somebody ends it.
async fn carry(mut client: TcpStream, shared: &Shared) {
    let mut changes = shared.weather.subscribe();
    let born = changes.borrow_and_update().clone();
    if born.shut {
        return;
    }
    let Ok(mut server) = connect(&born.target).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 65536], vec![0; 65536]);
    loop {
        let now = changes.borrow_and_update().clone();
        if now.generation != born.generation || now.shut {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            read = client.read(&mut from_client), if now.to_server => {
                let Ok(count @ 1..) = read else { return };
                tokio::time::sleep(now.delay).await;
                let chunk = &from_client[..count];
                let lost = chunk.windows(7).any(|text| text == b"COMMIT\0")
                    && shared.swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                if server.write_all(chunk).await.is_err() {
                    return;
                }
                if lost {
                    // The answer proves that the server has committed; nobody else learns of it.
                    if matches!(server.read(&mut from_server).await, Ok(1..)) {
                        shared.swallowed.fetch_add(1, Ordering::SeqCst);
                    }
                    return;
                }
            }
            read = server.read(&mut from_server), if now.to_client => {
                let Ok(count @ 1..) = read else { return };
                tokio::time::sleep(now.delay).await;
                shared.carried.fetch_add(count as u64, Ordering::SeqCst);
                if client.write_all(&from_server[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn connect(target: &Target) -> std::io::Result<Box<dyn Stream>> {
    match target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Target::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A server that says back what it hears, and a door to it.
    async fn echo() -> anyhow::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
        Proxy::to(Target::Tcp(address)).await
    }

    async fn said_back(stream: &mut TcpStream, words: &[u8]) -> std::io::Result<bool> {
        stream.write_all(words).await?;
        let mut heard = vec![0; words.len()];
        let read = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut heard)).await;
        Ok(read.is_ok_and(|read| read.is_ok()) && heard == words)
    }

    async fn ends(mut stream: TcpStream) -> bool {
        let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 8])).await;
        matches!(ended, Ok(Ok(0) | Err(_)))
    }

    #[tokio::test]
    async fn it_carries_cuts_and_shuts() -> anyhow::Result<()> {
        let proxy = echo().await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert!(said_back(&mut stream, b"hello").await?);
        proxy.cut();
        assert!(ends(stream).await, "what is connected breaks");
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert!(said_back(&mut stream, b"again").await?, "and new ones get through");
        proxy.shut();
        assert!(ends(stream).await);
        assert!(ends(TcpStream::connect(proxy.address()).await?).await, "nor do new ones get through");
        proxy.clear();
        assert!(said_back(&mut TcpStream::connect(proxy.address()).await?, b"clear").await?);
        Ok(())
    }

    #[tokio::test]
    async fn a_lost_direction_is_carried_later_and_nobody_is_told() -> anyhow::Result<()> {
        let proxy = echo().await?;
        for lose in [Proxy::lose_answers, Proxy::lose_requests] {
            let mut stream = TcpStream::connect(proxy.address()).await?;
            lose(&proxy);
            assert!(!said_back(&mut stream, b"unheard").await?);
            proxy.clear();
            let mut heard = [0; 7];
            tokio::time::timeout(PATIENCE, stream.read_exact(&mut heard)).await??;
            assert_eq!(&heard, b"unheard");
        }
        Ok(())
    }

    #[tokio::test]
    async fn connecting_is_refused_or_gets_no_answer_until_it_listens_again() -> anyhow::Result<()> {
        let mut proxy = echo().await?;
        proxy.refuse();
        super::super::eventually("connecting is refused", PATIENCE, async || match TcpStream::connect(proxy.address()).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            seen => Err(format!("{seen:?}")),
        })
        .await?;
        proxy.clog().await?;
        let waits = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(proxy.address())).await;
        assert!(waits.is_err(), "{waits:?}");
        proxy.listen_again().await?;
        assert!(said_back(&mut TcpStream::connect(proxy.address()).await?, b"open").await?);
        Ok(())
    }

    #[tokio::test]
    async fn answers_to_commit_are_swallowed_and_counted() -> anyhow::Result<()> {
        let proxy = echo().await?;
        proxy.swallow_commits(1);
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert!(said_back(&mut stream, b"BEGIN\0").await?);
        stream.write_all(b"COMMIT\0").await?;
        assert!(ends(stream).await);
        assert_eq!(proxy.swallowed(), 1);
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert!(said_back(&mut stream, b"COMMIT\0").await?, "only as many as were asked for");
        Ok(())
    }
}
