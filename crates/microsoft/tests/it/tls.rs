//! An authority of our own, servers with certificates from it, and a phone book that leads to them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use microsoft::{HttpSettings, Resolver};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::common::read_request;

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate, its key and nobody's trust.
pub(crate) struct Issued {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Good from 2020 to the end of `until`.
    pub(crate) fn issue(&self, name: &str, until: i32) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        Issued { certificate, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    /// Certificates for whatever name a client asks for, made as they are asked for.
    pub(crate) fn for_every_name(self) -> (ServerConfig, Bytes) {
        let root = Bytes::copy_from_slice(self.0.der());
        let builder = ServerConfig::builder();
        let keys = builder.crypto_provider().clone();
        let issuer = EveryName { authority: self, keys, issued: Mutex::default() };
        (builder.with_no_client_auth().with_cert_resolver(Arc::new(issuer)), root)
    }

    /// Settings of a client that trusts it.
    pub(crate) fn trusted(&self, names: &PhoneBook) -> HttpSettings {
        HttpSettings { extra_roots: vec![Bytes::copy_from_slice(self.0.der())], ..names.settings() }
    }
}

/// An authority at work: whoever comes under whatever name gets the certificate for it.
struct EveryName {
    authority: Authority,
    keys: Arc<CryptoProvider>,
    issued: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for EveryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EveryName")
    }
}

impl ResolvesServerCert for EveryName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An address of this machine comes without a name.
        let name = hello.server_name().unwrap_or("127.0.0.1").to_owned();
        let mut issued = self.issued.lock().unwrap();
        let certified = issued.entry(name).or_insert_with_key(|name| {
            let Issued { certificate, key } = self.authority.issue(name, 2999);
            Arc::new(CertifiedKey::from_der(vec![certificate], key, &self.keys).unwrap())
        });
        Some(certified.clone())
    }
}

/// Which name leads where. What is not in it does not exist, unless all others lead somewhere.
#[derive(Clone, Default)]
pub(crate) struct PhoneBook {
    entries: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
    others: Arc<Mutex<Option<SocketAddr>>>,
    asked: Arc<AtomicUsize>,
}

impl PhoneBook {
    pub(crate) fn write(&self, name: &str, address: SocketAddr) {
        self.entries.lock().unwrap().insert(name.to_owned(), address);
    }

    /// Every name that is not in the book leads there.
    pub(crate) fn all_others(&self, address: SocketAddr) {
        *self.others.lock().unwrap() = Some(address);
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Settings of a client that looks names up here.
    pub(crate) fn settings(&self) -> HttpSettings {
        let book = self.clone();
        let resolver = Resolver::new(move |name| {
            book.asked.fetch_add(1, Ordering::SeqCst);
            let found = book.entries.lock().unwrap().get(name).copied().or(*book.others.lock().unwrap());
            found.map(|address| vec![address]).ok_or_else(|| std::io::Error::other("no such name in the phone book"))
        });
        HttpSettings { resolver: Some(resolver), system_proxy: false, ..HttpSettings::default() }
    }
}

/// A server that speaks TLS and answers every request with the same bytes.
pub(crate) struct TlsServer {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl TlsServer {
    pub(crate) async fn answering(issued: Issued, answer: Vec<u8>) -> Self {
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![issued.certificate], issued.key).unwrap();
        let (acceptor, answer): (_, Arc<[u8]>) = (TlsAcceptor::from(Arc::new(config)), answer.into());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, count) = (acceptor.clone(), answer.clone(), count.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    if !read_request(&mut stream).await.is_empty() {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, requests, accepting }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Nobody answers at its address from now on.
    pub(crate) async fn stop(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

/// How many requests a server of HTTP/2 lets be in flight by one connection.
pub(crate) const STREAMS: usize = 100;

/// A server that speaks HTTP/2 over TLS, answers every request with the same body and counts its connections. A request
/// with the token `hangs` is never answered.
pub(crate) struct H2Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// How many requests hang.
    pub(crate) hanging: watch::Receiver<usize>,
}

impl H2Server {
    /// Each handshake takes so long.
    pub(crate) async fn answering(issued: Issued, body: &'static str, handshake: Duration) -> Self {
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![issued.certificate], issued.key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let (hangs, hanging) = watch::channel(0);
        let hangs = Arc::new(hangs);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, hangs) = (acceptor.clone(), hangs.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(handshake).await;
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let streams = u32::try_from(STREAMS).unwrap();
                    let Ok(mut connection) = h2::server::Builder::new().max_concurrent_streams(streams).handshake(stream).await else {
                        return;
                    };
                    let mut unanswered = Vec::new();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        if request.headers().get("authorization").is_some_and(|token| token == "Bearer hangs") {
                            unanswered.push(respond);
                            hangs.send_modify(|count| *count += 1);
                            continue;
                        }
                        let Ok(mut answer) = respond.send_response(http::Response::new(()), false) else { continue };
                        let _ = answer.send_data(Bytes::from_static(body.as_bytes()), true);
                    }
                });
            }
        });
        Self { address, connections, hanging }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
