//! The servers, each with stores that lie below prefixes of their own.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use freezeframe::config::Period;
use freezeframe::config::s3::S3Config;
use freezeframe::store::SharedStore;
use freezeframe::store::s3::S3Store;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::s3s_fs_server::{ACCESS_KEY, Misbehaviour, S3Server, SECRET_KEY};
use crate::support::moto::MotoProcess;

pub const BUCKET: &str = "backups";

/// s3s-fs in this process.
pub struct S3sFs {
    server: S3Server,
    home: TempDir,
    stores: AtomicU32,
}

impl S3sFs {
    pub async fn start() -> Self {
        let home = TempDir::new().unwrap();
        std::fs::create_dir_all(home.path().join("root").join(BUCKET)).unwrap();
        let server = S3Server::start(&home.path().join("root"), 0).await;
        Self {
            server,
            home,
            stores: AtomicU32::new(0),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it is to do wrong from now on.
    pub fn misbehaves(&self) -> &Misbehaviour {
        self.server.misbehaves()
    }

    pub fn open_uploads(&self) -> Vec<String> {
        self.server.open_uploads()
    }

    pub fn settings(&self) -> S3Config {
        settings(self.address(), &self.home)
    }

    /// A store below a new prefix.
    pub fn fresh(&self) -> SharedStore {
        fresh(&self.settings(), &self.home, &self.stores)
    }
}

/// moto, with a bucket.
pub struct Moto {
    process: MotoProcess,
    home: TempDir,
    stores: AtomicU32,
}

impl Moto {
    pub async fn start() -> Self {
        let moto = Self {
            process: MotoProcess::start().await,
            home: TempDir::new().unwrap(),
            stores: AtomicU32::new(0),
        };
        // moto checks nobody, so anybody may make the bucket.
        let made = moto.ask("PUT", &format!("/{BUCKET}"), &[], "").await;
        assert!(made.starts_with("HTTP/1.1 200"), "{made}");
        moto
    }

    pub fn fresh(&self) -> SharedStore {
        fresh(&self.settings(), &self.home, &self.stores)
    }

    pub fn settings(&self) -> S3Config {
        settings(self.process.address, &self.home)
    }

    /// The store below `prefix`, reached with `settings`.
    pub fn store(&self, prefix: &str, settings: &S3Config) -> SharedStore {
        store(prefix, settings, &self.home)
    }

    pub fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// As [`Moto::settings`], by way of `endpoint`.
    pub fn settings_by(&self, endpoint: &str) -> S3Config {
        S3Config {
            endpoint: Some(endpoint.parse().unwrap()),
            ..self.settings()
        }
    }

    /// The answer to a bare request without signature.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let address = self.process.address;
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let headers = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n{body}",
            body.len(),
            headers.collect::<String>()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }
}

impl S3sFs {
    /// As [`S3sFs::settings`], by way of `endpoint`.
    pub fn settings_by(&self, endpoint: &str) -> S3Config {
        S3Config {
            endpoint: Some(endpoint.parse().unwrap()),
            ..self.settings()
        }
    }

    /// Files in the spool of its stores; none where it was never made.
    pub fn spooled(&self) -> Option<usize> {
        let entries = std::fs::read_dir(self.home.path().join("spool")).ok()?;
        Some(entries.count())
    }

    /// The store below `prefix`, reached with `settings`.
    pub fn store(&self, prefix: &str, settings: &S3Config) -> SharedStore {
        store(prefix, settings, &self.home)
    }

    /// The same, whose calls end when `cancel` is cancelled.
    pub fn store_until(
        &self,
        prefix: &str,
        settings: &S3Config,
        cancel: &CancellationToken,
    ) -> SharedStore {
        let spool = self.home.path().join("spool");
        Arc::new(S3Store::new(
            BUCKET,
            prefix,
            settings,
            spool,
            cancel.clone(),
        ))
    }
}

/// How to reach the server at `address`; patience and memory as a test can bear them.
pub fn settings(address: SocketAddr, home: &TempDir) -> S3Config {
    let credentials = home.path().join("credentials");
    let text = format!(
        "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    );
    let written = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&credentials)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        // Written for an earlier store of the same server.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.unwrap(),
    }
    S3Config {
        endpoint: Some(format!("http://{address}").parse().unwrap()),
        path_style: true,
        credentials_file: Some(credentials),
        retry_for: Period(Duration::from_secs(20)),
        ..S3Config::default()
    }
}

fn fresh(settings: &S3Config, home: &TempDir, stores: &AtomicU32) -> SharedStore {
    let prefix = format!("store/{}", stores.fetch_add(1, Ordering::Relaxed));
    store(&prefix, settings, home)
}

fn store(prefix: &str, settings: &S3Config, home: &TempDir) -> SharedStore {
    Arc::new(S3Store::new(
        BUCKET,
        prefix,
        settings,
        home.path().join("spool"),
        CancellationToken::new(),
    ))
}
