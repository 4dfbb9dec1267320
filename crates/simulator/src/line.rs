//! Connections with a switch that tears them off, at once or after some more bytes. A reset is the one fault that no HTTP answer can express, so
//! the listener keeps a hand on the socket.

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// The switch of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Cable(Arc<AtomicUsize>);

/// So many bytes are never sent.
const NEVER: usize = usize::MAX;

impl Cable {
    fn whole() -> Cable {
        Cable(Arc::new(AtomicUsize::new(NEVER)))
    }

    /// Tears the connection off at the next byte the server wants to send.
    pub(crate) fn cut(&self) {
        self.cut_after(0);
    }

    /// Tears the connection off when the server has sent so many more bytes.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.0.store(bytes, Ordering::SeqCst);
    }

    /// How many bytes may still pass.
    fn left(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn passed(&self, bytes: usize) {
        let left = self.left();
        if left != NEVER {
            self.cut_after(left.saturating_sub(bytes));
        }
    }
}

impl Connected<IncomingStream<'_, Door>> for Cable {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Cable {
        stream.io().cable.clone()
    }
}

/// Where connections come in.
#[derive(Debug)]
pub(crate) struct Door(pub(crate) TcpListener);

impl Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, peer)) => {
                    // Small answers should not wait for more to come; if this fails they merely wait.
                    let _ = stream.set_nodelay(true);
                    return (Line { stream, cable: Cable::whole() }, peer);
                }
                // Out of descriptors or a caller that left at once: try again rather than give up.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    cable: Cable,
}

impl Line {
    /// Makes closing the socket a reset, and reports it as broken.
    fn tear(&self) -> io::Error {
        // Where the system refuses, the caller sees an ordinary early end, which is an outage as well.
        let _ = self.stream.set_zero_linger();
        io::ErrorKind::ConnectionReset.into()
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.cable.left();
        if left == 0 {
            return Poll::Ready(Err(self.tear()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, &bytes[..bytes.len().min(left)]);
        if let Poll::Ready(Ok(written)) = written {
            self.cable.passed(written);
        }
        written
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.cable.left() == NEVER {
            return Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        }
        let first = bytes.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.poll_write(context, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cable.left() == 0 {
            // No polite goodbye: dropping the socket sends the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
