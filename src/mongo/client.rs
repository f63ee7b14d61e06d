//! One authenticated connection to one mongod, and the one way to run a command on it.

use std::fmt;
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{AuthMechanism, ClientOptions, Credential, ServerAddress, Tls, TlsOptions};

use super::{Access, HostProcess, Mechanism, MongoError};
use crate::human;
use crate::ids::MemberAddr;

/// The server's code for a missing privilege.
const UNAUTHORIZED: i32 = 13;

/// How the driver complains about a refusal without a code.
const NO_CODE: &str = "missing field `code`";

/// A mongod we are connected to: direct, authenticated, with a warm connection in the pool.
#[derive(Clone)]
pub struct Mongod {
    addr: MemberAddr,
    user: String,
    /// Nobody has told us who we are.
    anonymous: bool,
    client: Client,
    timeout: Duration,
    process: Option<HostProcess>,
}

/// Connects to exactly the mongod at `addr`, authenticates and asks it who it is.
///
/// `timeout` bounds each step of it, and each later call unless said otherwise. `app_name`
/// names us in the server's log and in `currentOp`.
///
/// # Errors
/// [`MongoError`]: settings, reachability, TLS, authentication, or that it is an arbiter.
pub async fn connect(
    addr: &MemberAddr,
    access: &Access,
    app_name: &str,
    timeout: Duration,
) -> Result<Mongod, MongoError> {
    if let Some(reason) = &access.withheld {
        return Err(MongoError::Settings {
            addr: addr.clone(),
            detail: reason.clone(),
        });
    }
    // The driver would look for a server until its selection timeout and then describe a
    // topology; a plain connection attempt says "connection refused" at once.
    let tcp = tokio::net::TcpStream::connect((addr.host.as_str(), addr.port));
    match tokio::time::timeout(timeout, tcp).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            return Err(MongoError::Unreachable {
                addr: addr.clone(),
                detail: error.to_string(),
            });
        }
        Err(_) => {
            return Err(MongoError::Unreachable {
                addr: addr.clone(),
                detail: format!("no answer within {}", human::duration(timeout)),
            });
        }
    }
    let mongod = Mongod::open(addr, access, app_name, timeout)?;
    // The first command: it opens the pool's connection and authenticates. The driver does not
    // log in to an arbiter, which holds no users, so nothing else could be asked of one.
    let hello = mongod.run("hello", doc! { "hello": 1 }).await?;
    if hello.get_bool("arbiterOnly").unwrap_or(false) {
        return Err(MongoError::Arbiter {
            addr: addr.clone(),
            set: hello.get_str("setName").ok().map(str::to_owned),
        });
    }
    Ok(mongod)
}

impl fmt::Debug for Mongod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mongod({} as {})", self.addr, self.user)
    }
}

impl Mongod {
    fn open(
        addr: &MemberAddr,
        access: &Access,
        app_name: &str,
        timeout: Duration,
    ) -> Result<Self, MongoError> {
        let options = client_options(addr, access, app_name, timeout)?;
        let client = Client::with_options(options).map_err(|error| MongoError::Settings {
            addr: addr.clone(),
            detail: error.kind.to_string(),
        })?;
        Ok(Self {
            addr: addr.clone(),
            user: match (&access.username, access.mechanism) {
                (Some(user), _) => format!("user {user}"),
                (None, Some(Mechanism::X509)) => "the client certificate".into(),
                (None, _) => "an unauthenticated client".into(),
            },
            anonymous: access.username.is_none() && access.mechanism.is_none(),
            client,
            timeout,
            process: None,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> &MemberAddr {
        &self.addr
    }

    /// The same connection with another limit for each call.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// The same connection, to a server that is known to be `process` of this host.
    pub fn on_this_host(self, process: Option<HostProcess>) -> Self {
        Self { process, ..self }
    }

    /// The process of this host that it is, where that is known.
    pub fn host_process(&self) -> Option<HostProcess> {
        self.process
    }

    /// Whether the server has certainly ended, and its locks with it.
    pub fn has_ended(&self) -> bool {
        self.process.is_some_and(|process| process.has_ended())
    }

    /// Runs a command on `admin`.
    pub(super) async fn run(
        &self,
        command: &'static str,
        document: Document,
    ) -> Result<Document, MongoError> {
        self.run_on("admin", command, document).await
    }

    /// Runs a command on `database`; `command` is its name in errors.
    pub(crate) async fn run_on(
        &self,
        database: &str,
        command: &'static str,
        document: Document,
    ) -> Result<Document, MongoError> {
        let database = self.client.database(database);
        let call = async { database.run_command(document).await };
        let asked = Instant::now();
        let answer = match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.classify(command, &error)),
            Err(_) => Err(MongoError::TimedOut {
                addr: self.addr.clone(),
                command,
                timeout: self.timeout,
            }),
        };
        // By its name alone: a command may carry data.
        let took = human::duration(asked.elapsed());
        match &answer {
            Ok(_) => tracing::trace!("asked {}: {command} ({took})", self.addr),
            Err(error) => tracing::trace!("asked {}: {command} ({took}): {error}", self.addr),
        }
        answer
    }

    /// The documents of a read that fits one batch.
    pub(crate) async fn find(
        &self,
        database: &str,
        find: &'static str,
        document: Document,
    ) -> Result<Vec<Document>, MongoError> {
        let reply = self.run_on(database, find, document).await?;
        let batch = reply
            .get_document("cursor")
            .and_then(|cursor| cursor.get_array("firstBatch"))
            .map_err(|error| self.odd_reply(find, error.to_string()))?;
        batch
            .iter()
            .map(|item| {
                item.as_document().cloned().ok_or_else(|| {
                    self.odd_reply(find, "a batch holds something other than documents")
                })
            })
            .collect()
    }

    pub(crate) fn odd_reply(&self, command: &'static str, detail: impl Into<String>) -> MongoError {
        MongoError::Reply {
            addr: self.addr.clone(),
            command,
            detail: detail.into(),
        }
    }

    fn classify(&self, command: &'static str, error: &Error) -> MongoError {
        let addr = self.addr.clone();
        match error.kind.as_ref() {
            ErrorKind::Command(failure) if failure.code == UNAUTHORIZED && self.anonymous => {
                MongoError::NoCredential { addr }
            }
            ErrorKind::Command(failure) if failure.code == UNAUTHORIZED => {
                MongoError::Unauthorized {
                    addr,
                    command,
                    privilege: privilege(command),
                    detail: failure.message.clone(),
                }
            }
            ErrorKind::Command(failure) => MongoError::Command {
                addr,
                command,
                code: failure.code,
                detail: failure.message.clone(),
            },
            // The server said no (ok: 0) but gave no code, as 6.0 does to fsyncUnlock when nothing is
            // locked; the driver knows no such refusal and reports only what it misses in it.
            ErrorKind::InvalidResponse { message, .. } if message.contains(NO_CODE) => {
                MongoError::Command {
                    addr,
                    command,
                    code: 0,
                    detail: "refused without an error code".into(),
                }
            }
            ErrorKind::Authentication { message, .. } => MongoError::Authentication {
                addr,
                user: self.user.clone(),
                detail: message.clone(),
            },
            ErrorKind::InvalidTlsConfig { message, .. }
            | ErrorKind::InvalidArgument { message, .. } => MongoError::Settings {
                addr,
                detail: message.clone(),
            },
            // It took our connection and said nothing.
            other if is_timeout(other) => MongoError::TimedOut {
                addr,
                command,
                timeout: self.timeout,
            },
            other => MongoError::Unreachable {
                addr,
                detail: in_words(other),
            },
        }
    }
}

/// Whether the driver waited in vain; it tells so only in words where it looked for a server.
fn is_timeout(kind: &ErrorKind) -> bool {
    match kind {
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
        ErrorKind::ServerSelection { message, .. } => is_silence(cause_in(message)),
        _ => false,
    }
}

/// What the driver says, without the state of its own that it says it with.
fn in_words(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::Io(error) => error.to_string(),
        ErrorKind::ServerSelection { message, .. } => cause_in(message).to_owned(),
        ErrorKind::ConnectionPoolCleared { message, .. } => {
            match message.rsplit_once("failed with: ") {
                Some((_, cause)) => innermost(cause).to_owned(),
                None => "the connection was lost".to_owned(),
            }
        }
        other => innermost(&other.to_string()).to_owned(),
    }
}

/// Whether no server was found because the one there is says nothing.
fn is_silence(cause: &str) -> bool {
    cause.is_empty() || cause.contains("timed out")
}

/// Why no server was found, out of the driver's drawing of what it looked at; empty where it heard nothing at all.
fn cause_in(message: &str) -> &str {
    let cause = message.split_once("Error: ").map_or("", |(_, cause)| cause);
    let end = cause.find(" }").unwrap_or(cause.len());
    innermost(cause.get(..end).unwrap_or(cause))
}

/// `text` without the labels that the driver puts around it.
fn innermost(text: &str) -> &str {
    let text = text.split(", labels: ").next().unwrap_or(text);
    let text = text.strip_prefix("Kind: ").unwrap_or(text);
    text.strip_prefix("I/O error: ").unwrap_or(text)
}

/// The privilege of the minimum role that a command needs, as an operator would grant it.
fn privilege(command: &str) -> &'static str {
    match command {
        "fsync" => "action fsync on the cluster",
        "fsyncUnlock" => "action unlock on the cluster",
        "serverStatus" => "action serverStatus on the cluster",
        "getCmdLineOpts" => "action getCmdLineOpts on the cluster",
        "replSetGetStatus" => "action replSetGetStatus on the cluster",
        "replSetGetConfig" => "action replSetGetConfig on the cluster",
        "currentOp" => "action inprog on the cluster",
        "appendOplogNote" => "action appendOplogNote on the cluster",
        "find local.oplog.rs" => "action find on local.oplog.rs",
        "find admin.system.version" => "action find on admin.system.version",
        "find config.settings" => "action find on config.settings (config servers)",
        "find config.shards" => "action find on config.shards (config servers)",
        "find config.version" => "action find on config.version (config servers)",
        "find config.migrations" => "action find on config.migrations (config servers)",
        "find config.migrationCoordinators" => {
            "action find on config.migrationCoordinators (shards)"
        }
        _ => "the role of this program",
    }
}

fn client_options(
    addr: &MemberAddr,
    access: &Access,
    app_name: &str,
    timeout: Duration,
) -> Result<ClientOptions, MongoError> {
    let mut options = ClientOptions::default();
    options.hosts = vec![ServerAddress::Tcp {
        host: addr.host.clone(),
        port: Some(addr.port),
    }];
    options.direct_connection = Some(true);
    options.app_name = Some(app_name.to_owned());
    options.connect_timeout = Some(timeout);
    options.server_selection_timeout = Some(timeout);
    options.min_pool_size = Some(1);
    // A command the server did not answer must never be sent a second time behind our back.
    options.retry_reads = Some(false);
    options.retry_writes = Some(false);
    options.credential = credential(addr, access)?;
    options.tls = access.tls.as_ref().map(|tls| {
        let mut options = TlsOptions::default();
        options.ca_file_path = tls.ca_file.clone();
        options.cert_key_file_path = tls.certificate_key_file.clone();
        options.tls_certificate_key_file_password = tls
            .certificate_key_password
            .as_ref()
            .map(|password| password.reveal().as_bytes().to_vec());
        Tls::Enabled(options)
    });
    Ok(options)
}

fn credential(addr: &MemberAddr, access: &Access) -> Result<Option<Credential>, MongoError> {
    let settings = |detail: &str| MongoError::Settings {
        addr: addr.clone(),
        detail: detail.into(),
    };
    let x509 = access.mechanism == Some(Mechanism::X509);
    if x509 {
        let certificate = access
            .tls
            .as_ref()
            .and_then(|tls| tls.certificate_key_file.as_ref());
        if certificate.is_none() {
            return Err(settings("X.509 needs a client certificate in tls"));
        }
        if access.password.is_some() {
            return Err(settings("X.509 takes no password"));
        }
    } else {
        match (&access.username, &access.password) {
            (None, None) if access.mechanism.is_none() => return Ok(None),
            (Some(_), Some(_)) => {}
            (None, _) => return Err(settings("a user is missing")),
            (Some(_), None) => return Err(settings("a password is missing")),
        }
    }
    let mut credential = Credential::default();
    credential.username = access.username.clone();
    credential.password = access.password.as_ref().map(|p| p.reveal().to_owned());
    credential.source = access
        .auth_source
        .clone()
        .or_else(|| Some(if x509 { "$external" } else { "admin" }.to_owned()));
    credential.mechanism = access.mechanism.map(|mechanism| match mechanism {
        Mechanism::ScramSha1 => AuthMechanism::ScramSha1,
        Mechanism::ScramSha256 => AuthMechanism::ScramSha256,
        Mechanism::X509 => AuthMechanism::MongoDbX509,
    });
    Ok(Some(credential))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_s_words_are_told_without_its_state() {
        let topology = |server: &str| {
            format!(
                "Server selection timeout: No available servers. Topology: {{ Type: Single, Servers: [ {{ Address: 127.0.0.1:1, Type: Unknown{server} }} ] }}"
            )
        };
        let refused = topology(
            ", Error: Kind: I/O error: Connection refused (os error 111), labels: {\"RetryableWriteError\"}, source: None",
        );
        assert_eq!(cause_in(&refused), "Connection refused (os error 111)");
        assert!(!is_silence(cause_in(&refused)));
        assert!(is_silence(cause_in(&topology(""))));
        assert!(is_silence(cause_in(&topology(
            ", Error: Kind: I/O error: timed out, labels: {}"
        ))));
        let io = ErrorKind::Io(std::sync::Arc::new(std::io::ErrorKind::TimedOut.into()));
        assert!(is_timeout(&io));
    }
}
