//! The way to the server: TLS with an authority of one's own, and proxies.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use base64::Engine;
use freezeframe::config::Period;
use freezeframe::config::s3::S3Config;
use freezeframe::error::{Exit, Explain};
use freezeframe::store::StoreError;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::task::AbortOnDropHandle;

use crate::servers::S3sFs;
use crate::support::certs::Certs;

/// TLS before a server that speaks none.
struct Tls {
    port: u16,
    /// Connections that were begun, whatever came of them.
    begun: Arc<AtomicU32>,
    _serving: AbortOnDropHandle<()>,
}

impl Tls {
    async fn start(upstream: std::net::SocketAddr, certs: &Certs) -> Self {
        let chain = CertificateDer::pem_file_iter(&certs.server).unwrap();
        let chain = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&certs.server).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let begun = Arc::<AtomicU32>::default();
        let counted = begun.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust us leaves.
                    if let Ok(mut client) = acceptor.accept(client).await {
                        let mut server = TcpStream::connect(upstream).await.unwrap();
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self {
            port,
            begun,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    fn settings(&self, server: &S3sFs, ca_file: Option<std::path::PathBuf>) -> S3Config {
        S3Config {
            ca_file,
            ..server.settings_by(&format!("https://localhost:{}", self.port))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let server = S3sFs::start().await;
    let home = tempfile::tempdir().unwrap();
    let certs = Certs::make(home.path());
    let tls = Tls::start(server.address(), &certs).await;
    let store = server.store("tls", &tls.settings(&server, Some(certs.ca.clone())));
    crate::faults::everything(&store, 9 << 20).await.unwrap();

    tls.begun.store(0, Relaxed);
    // Longer than a test may take: nothing that is tried again ends in time.
    let impatient = S3Config {
        retry_for: Period(std::time::Duration::from_secs(3600)),
        ..tls.settings(&server, None)
    };
    let error = server.store("tls", &impatient).put("a", b"x").await;
    let error = error.unwrap_err();
    assert!(matches!(error, StoreError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("[s3] ca_file"))
    );
    assert_eq!(error.exit(), Exit::Store);
    assert_eq!(tls.begun.load(Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_authorities_is_refused() {
    let server = S3sFs::start().await;
    let home = tempfile::tempdir().unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, content) in [
        ("absent", None),
        ("empty", Some("")),
        ("text", Some("no certificate")),
        ("broken", Some(broken)),
        ("cut", Some("-----BEGIN CERTIFICATE-----\nAAAA\n")),
        (
            "odd",
            Some("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"),
        ),
    ] {
        let ca_file = home.path().join(name);
        if let Some(content) = content {
            std::fs::write(&ca_file, content).unwrap();
        }
        let settings = S3Config {
            ca_file: Some(ca_file.clone()),
            ..server.settings()
        };
        let error = server
            .store("x", &settings)
            .put("a", b"x")
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::NoAccess { .. }),
            "{name}: {error}"
        );
        let said = error.to_string();
        assert!(said.contains(ca_file.to_str().unwrap()), "{name}: {said}");
        assert!(error.hint().is_some_and(|hint| hint.contains("[s3]")));
    }
}

/// An HTTP proxy that takes every name for one of its own: plain requests go to `plain`, tunnels to `tunnelled`.
struct Proxy {
    port: u16,
    /// The head of what each connection began with.
    heads: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Proxy {
    async fn start(plain: std::net::SocketAddr, tunnelled: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let noted = heads.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let noted = noted.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = client.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    let text = String::from_utf8(head.clone()).unwrap();
                    let tunnel = text.starts_with("CONNECT ");
                    noted.lock().unwrap().push(text);
                    let mut server = match tunnel {
                        true => TcpStream::connect(("127.0.0.1", tunnelled)).await.unwrap(),
                        false => TcpStream::connect(plain).await.unwrap(),
                    };
                    match tunnel {
                        true => client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap(),
                        // The server takes a target with a host in it as it is.
                        false => server.write_all(&head).await.unwrap(),
                    }
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            port,
            heads,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_by_the_proxy() {
    let server = S3sFs::start().await;
    let home = tempfile::tempdir().unwrap();
    let certs = Certs::make(home.path());
    let tls = Tls::start(server.address(), &certs).await;
    let proxy = Proxy::start(server.address(), tls.port).await;
    let by_proxy = |endpoint: &str, user: &str| S3Config {
        proxy: Some(
            format!("http://{user}127.0.0.1:{}", proxy.port)
                .parse()
                .unwrap(),
        ),
        ca_file: Some(certs.ca.clone()),
        ..server.settings_by(endpoint)
    };

    // Only the proxy knows this name.
    let settings = by_proxy("http://store.invalid", "");
    let store = server.store("plain", &settings);
    crate::faults::everything(&store, 9 << 20).await.unwrap();
    let heads = proxy.heads();
    let by_name = |head: &String| head.contains(" http://store.invalid/backups");
    assert!(!heads.is_empty() && heads.iter().all(by_name), "{heads:?}");

    // And nobody listens at this port of ours.
    let settings = by_proxy("https://localhost:1", "me:pass%40word@");
    let store = server.store("tunnelled", &settings);
    crate::faults::everything(&store, 9 << 20).await.unwrap();
    let heads = proxy.heads();
    let tunnel = |head: &String| head.starts_with("CONNECT localhost:1 ");
    assert!(!heads.is_empty() && heads.iter().all(tunnel), "{heads:?}");
    let login = base64::prelude::BASE64_STANDARD.encode("me:pass@word");
    let named = |head: &String| head.contains(&format!("Basic {login}"));
    assert!(heads.iter().all(named), "{heads:?}");
    // The proxy cannot make a server of another name a trusted one.
    let settings_of_other = by_proxy("https://other.invalid", "");
    let error = server.store("x", &settings_of_other).put("a", b"x").await;
    let error = error.unwrap_err();
    assert!(matches!(error, StoreError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("other.invalid"), "{error}");
    // Without it nothing is reached.
    let settings = S3Config {
        proxy: None,
        retry_for: Period(std::time::Duration::from_secs(1)),
        ..settings
    };
    let error = server.store("tunnelled", &settings).put("a", b"x").await;
    let error = error.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
}
