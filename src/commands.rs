//! The verbs: each loads what it needs, calls the library, prints what came of it.

mod backup;
mod check;
mod copy;
mod generate;
mod guard;
mod hold;
mod list;
mod metrics;
mod pack;
mod prune;
mod recover;
mod restore;
mod rollback;
mod setup;
mod show;
mod show_config;
mod snapshot;
mod status;
mod unlock;
mod unpack;
mod verify;

use std::future::Future;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::backup::Environment;
#[cfg(debug_assertions)]
use crate::backup::boundary::Boundary;
use crate::backup::release::Tools;
use crate::blocking::off_thread;
use crate::cli::{Cli, Verb, WhichStore};
use crate::config::{Config, ConfigError, CopyConfig, StoreUrl};
use crate::error::{Exit, Explain};
use crate::exec::SystemExec;
use crate::host::Systemd;
use crate::mongo::Access;
use crate::shown::without_controls;
use crate::store::closed::ClosedStore;
use crate::store::releasing::Stores;
use crate::store::{self, SharedStore, StoreError, StoreSettings};
use crate::terminal::Terminal;

/// Any error, as the edge sees it.
pub type Failure = Box<dyn Explain + Send + Sync>;

/// What every verb that works with a configuration has at hand.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// How to run commands, reach mongod and give things back.
    pub tools: Tools,
    /// How to open the store.
    pub stores: StoreSettings,
    /// Where progress goes.
    pub terminal: Terminal,
    /// Cancelled by SIGINT and SIGTERM.
    pub cancel: CancellationToken,
    /// Whether data is to be printed as JSON.
    pub json: bool,
}

impl Context {
    fn new(
        config: Config,
        config_file: PathBuf,
        terminal: &Terminal,
        json: bool,
        access: Access,
    ) -> Result<Self, Failure> {
        let stores = config.store_settings();
        Ok(Self {
            tools: Tools {
                program: std::env::current_exe().map_err(EdgeError::Runtime)?,
                config: config_file,
                exec: Arc::new(SystemExec),
                access,
                timeout: config.mongodb.timeout.0,
                stores: Stores::new(stores.clone()),
                ebs: crate::ebs::connect::Access::new(config.ebs.clone()),
                systemd: Systemd::detect(),
            },
            stores,
            config,
            terminal: terminal.clone(),
            cancel: CancellationToken::new(),
            json,
        })
    }

    /// The first of the configured stores.
    fn store(&self) -> Result<SharedStore, StoreError> {
        self.store_at(&self.config.store.url)
    }

    /// The store that is meant.
    fn store_of(&self, which: &WhichStore) -> Result<SharedStore, StoreError> {
        self.store_at(which.store.as_ref().unwrap_or(&self.config.store.url))
    }

    fn store_at(&self, url: &StoreUrl) -> Result<SharedStore, StoreError> {
        store::open(url.as_str(), &self.stores, &self.cancel)
    }

    /// A store that backups are copied to. One that cannot be opened, or is the first under another name, says so in every call.
    fn store_of_copies(&self, copy: &CopyConfig, settings: &StoreSettings) -> SharedStore {
        let url = copy.url.as_str();
        let is_first = |folder: &Path| {
            let first = self.config.store.url.folder();
            // By its inode: a bind mount has a path of its own.
            let inode = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
            let first = first.and_then(inode);
            // Nor does a place inside it outlive what it lies in.
            let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
            first.is_some() && folder.ancestors().any(|above| inode(above) == first)
        };
        // By its own name it is where backups are brought home to.
        let another_name = copy.url != self.config.store.url;
        if another_name && copy.url.folder().is_some_and(is_first) {
            let error = StoreError::InvalidUrl {
                url: url.to_owned(),
                reason: "it is the folder of [store] under another name, or lies in that".into(),
            };
            return Arc::new(ClosedStore::new(url, &error));
        }
        self.store_with(&copy.url, settings)
    }

    /// As [`Context::store_at`]; of one that cannot be opened every call says why.
    fn store_or_closed(&self, url: &StoreUrl) -> SharedStore {
        self.store_with(url, &self.stores)
    }

    /// The same by `settings`.
    fn store_with(&self, url: &StoreUrl, settings: &StoreSettings) -> SharedStore {
        store::open(url.as_str(), settings, &self.cancel)
            .unwrap_or_else(|error| Arc::new(ClosedStore::new(url.as_str(), &error)))
    }

    /// What a backup works with.
    fn environment(&self, store: SharedStore) -> Environment {
        Environment {
            store,
            config: self.config.clone(),
            tools: self.tools.clone(),
            progress: Arc::new(self.terminal.clone()),
            cancel: self.cancel.clone(),
        }
    }
}

/// What can go wrong at the edge itself.
#[derive(Debug, Error)]
enum EdgeError {
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    #[error("interrupted")]
    Interrupted,
    #[error("interrupted: what was to be given back may be held still")]
    GivingBackInterrupted,
}

impl Explain for EdgeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::GivingBackInterrupted => Some("run the same again".into()),
            Self::Runtime(_) | Self::Output(_) | Self::Interrupted => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Interrupted => Exit::Interrupted,
            Self::GivingBackInterrupted => Exit::StillHeld,
            Self::Runtime(_) | Self::Output(_) => Exit::Failed,
        }
    }
}

/// The configuration. At night there may be none: for members named by hand `unlock` goes on without.
fn load(cli: &Cli) -> Result<Config, ConfigError> {
    let named = matches!(&cli.verb, Verb::Unlock(arguments) if !arguments.member.is_empty());
    match Config::load(&cli.config) {
        Err(ConfigError::Read { path, source })
            if named && source.kind() == std::io::ErrorKind::NotFound =>
        {
            tracing::warn!(
                "there is no configuration {}: going on with the defaults, without a user and without TLS",
                path.display()
            );
            Ok(Config::without_store())
        }
        loaded => {
            tracing::debug!("read the configuration {}", cli.config.display());
            loaded
        }
    }
}

/// Does what the command line says.
///
/// # Errors
/// Whatever the verb's own layer says.
pub fn run(cli: Cli, terminal: &Terminal) -> Result<Exit, Failure> {
    if let Verb::Generate(arguments) = &cli.verb {
        return generate::run(arguments);
    }
    #[cfg(debug_assertions)]
    if let Verb::Boundaries = &cli.verb {
        return boundaries();
    }
    let config = match cli.verb {
        Verb::Pack(arguments) => {
            let hand = Hand::new(terminal, cli.json);
            return hand.run(|hand| pack::run(hand, arguments));
        }
        Verb::Unpack(arguments) => {
            let hand = Hand::new(terminal, cli.json);
            return hand.run(|hand| unpack::run(hand, arguments));
        }
        Verb::Setup(arguments) => return setup::run(&cli.config, cli.json, terminal, arguments),
        _ => load(&cli)?,
    };
    // Guard and timer are started from elsewhere.
    let config_file = std::path::absolute(&cli.config).unwrap_or(cli.config);
    // A backup is restored where nobody has the database's password.
    let access = match cli.verb.asks_members() {
        true => config.access().map_err(ConfigError::from)?,
        false => config.access_if_any(),
    };
    let context = Context::new(config, config_file, terminal, cli.json, access)?;
    match cli.verb {
        Verb::Guard => guard::run(context),
        Verb::Config(arguments) => show_config::run(&context, &arguments),
        Verb::Recover(arguments) => {
            let interrupted = EdgeError::GivingBackInterrupted;
            repeatable_or(context, interrupted, |context| {
                recover::run(context, arguments)
            })
        }
        Verb::Unlock(arguments) => {
            let interrupted = EdgeError::GivingBackInterrupted;
            repeatable_or(context, interrupted, |context| {
                unlock::run(context, arguments)
            })
        }
        Verb::Check => interruptible(context, check::run),
        Verb::Backup(arguments) => {
            interruptible(context, |context| backup::run(context, arguments))
        }
        Verb::Snapshot(arguments) => {
            interruptible(context, |context| snapshot::run(context, arguments))
        }
        Verb::Rollback(arguments) => {
            interruptible(context, |context| rollback::run(context, arguments))
        }
        Verb::Status => repeatable(context, status::run),
        Verb::Metrics(arguments) if arguments.listen.is_some() => {
            interruptible(context, |context| metrics::run(context, arguments))
        }
        Verb::Metrics(arguments) => repeatable(context, |context| metrics::run(context, arguments)),
        Verb::List(arguments) => repeatable(context, |context| list::list(context, arguments)),
        Verb::Show(arguments) => repeatable(context, |context| show::run(context, arguments)),
        Verb::Verify(arguments) => {
            interruptible(context, |context| verify::run(context, arguments))
        }
        Verb::Restore(arguments) => {
            interruptible(context, |context| restore::run(context, arguments))
        }
        Verb::Prune(arguments) => interruptible(context, |context| prune::run(context, arguments)),
        Verb::Copy(arguments) => interruptible(context, |context| copy::run(context, arguments)),
        Verb::Hold(arguments) => interruptible(context, |context| hold::run(context, arguments)),
        // Done above, without a configuration.
        Verb::Setup(_) | Verb::Generate(_) | Verb::Pack(_) | Verb::Unpack(_) => Ok(Exit::Done),
        #[cfg(debug_assertions)]
        Verb::Boundaries => boundaries(),
    }
}

/// What the laboratory's kill matrix walks through.
#[cfg(debug_assertions)]
fn boundaries() -> Result<Exit, Failure> {
    let mut out = std::io::stdout().lock();
    for boundary in Boundary::all() {
        writeln!(out, "{boundary} {}", boundary.command()).map_err(EdgeError::Output)?;
    }
    Ok(Exit::Done)
}

/// Runs a verb with SIGINT and SIGTERM turned into cancellation, so that it gives back what it holds. A second one ends the
/// waiting for a store that does not answer.
fn interruptible<F>(context: Context, verb: impl FnOnce(Context) -> F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let (cancel, hurry) = (context.cancel.clone(), context.stores.hurry.clone());
    cancelling(cancel, hurry, GIVES_BACK, || verb(context))
}

/// What verbs that need no configuration have at hand.
pub struct Hand {
    /// Where progress goes.
    pub terminal: Terminal,
    /// Cancelled by SIGINT and SIGTERM.
    pub cancel: CancellationToken,
    /// Whether data is to be printed as JSON.
    pub json: bool,
}

impl Hand {
    fn new(terminal: &Terminal, json: bool) -> Self {
        Self {
            terminal: terminal.clone(),
            cancel: CancellationToken::new(),
            json,
        }
    }

    /// Runs a verb that blocks.
    fn run(
        self,
        verb: impl FnOnce(&Self) -> Result<Exit, Failure> + Send + 'static,
    ) -> Result<Exit, Failure> {
        let cancel = self.cancel.clone();
        cancelling(
            cancel,
            CancellationToken::new(),
            GIVES_BACK,
            || async move { off_thread(move || verb(&self)).await },
        )
    }
}

/// What a verb that was asked to end says then.
const GIVES_BACK: &str = "asked to end: giving back what is held";

/// Runs `verb` while the first signal cancels the one token and the second the other.
fn cancelling<F>(
    cancel: CancellationToken,
    hurry: CancellationToken,
    told: &'static str,
    verb: impl FnOnce() -> F,
) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(EdgeError::Runtime)?;
    runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .map_err(EdgeError::Runtime)?;
        let mut interrupt =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
                .map_err(EdgeError::Runtime)?;
        // An ssh session that breaks must not leave snapshots behind.
        let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
            .map_err(EdgeError::Runtime)?;
        tokio::spawn(async move {
            let mut asked = async || {
                tokio::select! {
                    _ = hangup.recv() => {}
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            asked().await;
            tracing::warn!("{told}");
            cancel.cancel();
            asked().await;
            tracing::warn!("asked again: not waiting for the store; what stays there is left to `freezeframe recover`");
            hurry.cancel();
        });
        verb().await
    })
}

/// Runs a verb that may be left at any point and done again: it just ends when interrupted.
fn repeatable<F>(context: Context, verb: impl FnOnce(Context) -> F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    repeatable_or(context, EdgeError::Interrupted, verb)
}

/// As [`repeatable`]; it ends with `interrupted` then.
fn repeatable_or<F>(
    context: Context,
    interrupted: EdgeError,
    verb: impl FnOnce(Context) -> F,
) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let (cancel, hurry) = (context.cancel.clone(), context.stores.hurry.clone());
    cancelling(cancel.clone(), hurry, "asked to end", || async move {
        tokio::select! {
            done = verb(context) => done,
            () = cancel.cancelled() => Err(interrupted.into()),
        }
    })
}

/// Prints `data` as JSON, or `text`.
fn print<T: Serialize>(json: bool, data: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = if json {
        serde_json::to_writer_pretty(&mut out, data)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        write!(out, "{}", without_controls(&text()))
    };
    match written.and_then(|()| out.flush()) {
        // `freezeframe list | head` is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other.map_err(EdgeError::Output)?),
    }
}
