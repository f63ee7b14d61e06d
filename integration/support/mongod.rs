//! Real replica sets for tests: any number of mongods on free loopback ports in a temporary
//! directory, with or without authentication and TLS, ended when dropped.
//!
//! The binary is named by `FREEZEFRAME_TEST_MONGOD`.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use freezeframe::ids::MemberAddr;
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ClientOptions, Credential, ServerAddress, Tls, TlsOptions};
use tempfile::TempDir;

use super::certs::Certs;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);
pub const PASSWORD: &str = "correct horse battery staple";

/// What a member is to be in the set.
#[derive(Debug, Clone, Default)]
pub struct Member {
    /// Fields of its entry in the replica-set configuration besides `_id` and `host`.
    pub config: Document,
    /// More arguments for mongod.
    pub args: Vec<String>,
}

impl Member {
    fn of(config: Document) -> Self {
        Self {
            config,
            args: Vec::new(),
        }
    }

    /// The first to be elected.
    pub fn primary() -> Self {
        Self::of(doc! { "priority": 10 })
    }

    /// An ordinary, visible secondary that is never elected.
    pub fn secondary() -> Self {
        Self::of(doc! { "priority": 0 })
    }

    /// A visible secondary that may be elected in the first one's place.
    pub fn electable() -> Self {
        Self::of(doc! { "priority": 1 })
    }

    /// A hidden secondary without a vote: what freezeframe wants.
    pub fn hidden() -> Self {
        Self::of(doc! { "priority": 0, "hidden": true, "votes": 0 })
    }

    /// A hidden secondary with a vote.
    pub fn hidden_voter() -> Self {
        Self::of(doc! { "priority": 0, "hidden": true })
    }

    /// A hidden secondary kept `secs` behind.
    pub fn delayed(secs: i64) -> Self {
        Self::of(doc! { "priority": 0, "hidden": true, "votes": 0, "secondaryDelaySecs": secs })
    }

    /// An arbiter.
    pub fn arbiter() -> Self {
        Self::of(doc! { "arbiterOnly": true })
    }

    /// The same with more arguments for mongod.
    pub fn with_args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }
}

/// What kind of set to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// Its members, the first of which initiates it.
    pub members: Vec<Member>,
    /// Key file and users.
    pub auth: bool,
    /// TLS required.
    pub tls: bool,
    /// More arguments for every mongod.
    pub args: Vec<String>,
    /// Where the data directories go; a temporary directory when none.
    pub dir: Option<PathBuf>,
}

impl Default for Options {
    /// A primary, a secondary and a hidden secondary named `rs0`, without authentication.
    fn default() -> Self {
        Self {
            name: "rs0".into(),
            members: vec![Member::primary(), Member::secondary(), Member::hidden()],
            auth: false,
            tls: false,
            args: Vec::new(),
            dir: None,
        }
    }
}

/// One running mongod; killed when dropped.
pub struct Running {
    /// Where it listens.
    pub addr: MemberAddr,
    /// Its data directory.
    pub db_path: PathBuf,
    child: Child,
    command: Vec<OsString>,
}

impl Running {
    /// Starts a mongod on a free port and waits until it listens.
    pub fn start(dir: &Path, name: &str, args: &[String]) -> Self {
        let binary = std::env::var_os("FREEZEFRAME_TEST_MONGOD")
            .expect("FREEZEFRAME_TEST_MONGOD must name a mongod binary");
        let db_path = dir.join(name);
        fs::create_dir_all(&db_path).unwrap();
        let log = dir.join(format!("{name}.log"));
        // A port that is free now can be taken before mongod binds it.
        for _ in 0..5 {
            let port = free_port();
            let mut command: Vec<OsString> = vec![binary.clone()];
            command.extend(["--dbpath".into(), db_path.clone().into()]);
            command.extend(["--logpath".into(), log.clone().into(), "--logappend".into()]);
            command.extend(["--port".into(), port.to_string().into()]);
            command.extend(COMMON.iter().map(OsString::from));
            command.extend(args.iter().map(OsString::from));
            if let Some(child) = spawn(&command, port) {
                let host = "127.0.0.1".to_owned();
                return Self {
                    addr: MemberAddr { host, port },
                    db_path,
                    child,
                    command,
                };
            }
        }
        panic!(
            "mongod ends at once: {}",
            fs::read_to_string(&log).unwrap_or_default()
        );
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts it again as it was, after [`Running::kill`].
    pub fn restart(&mut self) {
        self.child = spawn(&self.command, self.addr.port).expect("mongod ends at once");
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Arguments of every mongod of a test.
const COMMON: [&str; 9] = [
    "--bind_ip",
    "127.0.0.1",
    "--nounixsocket",
    "--oplogSize",
    "64",
    "--setParameter",
    "diagnosticDataCollectionEnabled=false",
    "--setParameter",
    "enableTestCommands=1",
];

/// Starts a mongod and waits until it listens; none when it ended before that.
fn spawn(command: &[OsString], port: u16) -> Option<Child> {
    let (program, args) = command.split_first().unwrap();
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("cannot start mongod");
    let started = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(child);
        }
        assert!(started.elapsed() < PATIENCE, "mongod does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running replica set.
pub struct ReplicaSet {
    /// Its name.
    pub name: String,
    /// Its members, in the order asked for.
    pub members: Vec<Running>,
    auth: bool,
    pub(super) certs: Option<Certs>,
    // Declared last: the directory goes after the servers that write into it.
    dir: Directory,
}

enum Directory {
    Temporary(TempDir),
    Given(PathBuf),
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Given(dir) => dir,
        }
    }
}

impl ReplicaSet {
    /// Starts and initiates a set, and waits until its first member is primary and the others
    /// have their state (secondary or arbiter).
    pub async fn start(options: Options) -> Self {
        let states: Vec<i32> = options
            .members
            .iter()
            .enumerate()
            .map(
                |(i, member)| match member.config.contains_key("arbiterOnly") {
                    true => 7,
                    false if i == 0 => 1,
                    false => 2,
                },
            )
            .collect();
        let set = Self::initiate(&options).await;
        let admin = set.admin(0).await;
        let ready = async || {
            let status = admin
                .database("admin")
                .run_command(doc! { "replSetGetStatus": 1 })
                .await;
            let Ok(status) = status else { return false };
            let seen: Vec<i32> = status
                .get_array("members")
                .unwrap()
                .iter()
                .filter_map(|member| member.as_document()?.get_i32("state").ok())
                .collect();
            seen == states
        };
        until("every member has its state", ready).await;
        for (i, member) in options.members.iter().enumerate() {
            let config = &member.config;
            if !config.contains_key("arbiterOnly") && !config.contains_key("secondaryDelaySecs") {
                set.until_lockable(i).await;
            }
        }
        set
    }

    /// Starts and initiates a set, and waits only until its first member is primary.
    pub async fn initiate(options: &Options) -> Self {
        let dir = match &options.dir {
            Some(dir) => Directory::Given(dir.clone()),
            None => Directory::Temporary(tempfile::tempdir().unwrap()),
        };
        let mut args = options.args.clone();
        args.extend(["--replSet".to_owned(), options.name.clone()]);
        if options.auth {
            args.extend(["--keyFile".to_owned(), key_file(dir.path())]);
        }
        let certs = options.tls.then(|| Certs::make(dir.path()));
        if let Some(certs) = &certs {
            let file = |path: &Path| path.to_str().unwrap().to_owned();
            args.extend(["--tlsMode".to_owned(), "requireTLS".to_owned()]);
            args.extend(["--tlsCertificateKeyFile".to_owned(), file(&certs.server)]);
            args.extend(["--tlsCAFile".to_owned(), file(&certs.ca)]);
            args.push("--tlsAllowConnectionsWithoutCertificates".to_owned());
        }
        let members: Vec<Running> = options
            .members
            .iter()
            .enumerate()
            .map(|(i, member)| {
                let args = [args.clone(), member.args.clone()].concat();
                Running::start(dir.path(), &format!("{}-{i}", options.name), &args)
            })
            .collect();
        let set = Self {
            name: options.name.clone(),
            members,
            auth: options.auth,
            certs,
            dir,
        };
        set.initiate_members(options).await;
        set
    }

    /// Waits until member `i` takes an fsync lock, and takes it off again.
    ///
    /// A member fresh from its initial sync refuses it until the set's commit point has passed
    /// the end of that sync.
    async fn until_lockable(&self, i: usize) {
        // Under authentication users arrive by replication.
        let admin = self.admin(i).await.database("admin");
        until("the member can be locked", async || {
            let lock = doc! { "fsync": 1, "lock": true };
            let locked = admin.run_command(lock).await.is_ok();
            if locked {
                let unlocked = admin.run_command(doc! { "fsyncUnlock": 1 }).await;
                unlocked.expect("fsyncUnlock");
            }
            locked
        })
        .await;
    }

    async fn initiate_members(&self, options: &Options) {
        let members: Vec<Bson> = self
            .members
            .iter()
            .zip(&options.members)
            .enumerate()
            .map(|(i, (running, member))| {
                let mut entry = doc! { "_id": i as i32, "host": running.addr.to_string() };
                entry.extend(member.config.clone());
                Bson::Document(entry)
            })
            .collect();
        let config_server = options.args.iter().any(|arg| arg == "--configsvr");
        let mut config = doc! { "_id": &self.name, "members": members };
        if config_server {
            config.insert("configsvr", true);
        }
        let anonymous = self.client(0, None).await;
        let database = anonymous.database("admin");
        database
            .run_command(doc! { "replSetInitiate": config })
            .await
            .expect("replSetInitiate");
        until("the first member is primary", async || {
            let hello = database.run_command(doc! { "hello": 1 }).await;
            hello.is_ok_and(|reply| reply.get_bool("isWritablePrimary").unwrap_or(false))
        })
        .await;
        if self.auth {
            // The localhost exception: the first user may be made by nobody.
            database
                .run_command(doc! {
                    "createUser": "root",
                    "pwd": PASSWORD,
                    "roles": ["root", "__system"],
                })
                .await
                .expect("createUser root");
        }
    }

    /// The directory everything lies in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Address of member `i`.
    pub fn addr(&self, i: usize) -> &MemberAddr {
        &self.members[i].addr
    }

    /// A driver client of member `i`, with all rights.
    pub async fn admin(&self, i: usize) -> Client {
        self.client(i, self.auth.then_some(("root", PASSWORD)))
            .await
    }

    /// A driver client of member `i` as any user of `admin`.
    pub async fn client(&self, i: usize, user: Option<(&str, &str)>) -> Client {
        let addr = self.addr(i);
        let mut options = ClientOptions::default();
        options.hosts = vec![ServerAddress::Tcp {
            host: addr.host.clone(),
            port: Some(addr.port),
        }];
        options.direct_connection = Some(true);
        options.credential = user.map(|(user, password)| {
            let mut credential = Credential::default();
            credential.username = Some(user.to_owned());
            credential.password = Some(password.to_owned());
            credential.source = Some("admin".to_owned());
            credential
        });
        options.tls = self.certs.as_ref().map(|certs| {
            let mut tls = TlsOptions::default();
            tls.ca_file_path = Some(certs.ca.clone());
            Tls::Enabled(tls)
        });
        Client::with_options(options).unwrap()
    }
}

/// Waits for a condition, which is asked again and again.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A port on which nobody listens just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn key_file(dir: &Path) -> String {
    let file = dir.join("key");
    fs::write(&file, "a+key+that+only+this+test+knows").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.to_str().unwrap().to_owned()
}
