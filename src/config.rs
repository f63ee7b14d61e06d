//! The configuration: one TOML file, every key documented in the shipped default,
//! unknown keys refused. Only the store is mandatory.

pub mod access;
mod archive;
mod copy;
pub mod ebs;
mod error;
mod hooks;
mod lvm;
mod mongo;
mod retention;
pub mod s3;
mod value;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::ebs::EbsConfig;
use self::s3::{ProxyUrl, S3Config};
use crate::archive::Method;
use crate::retention::Rules;
use crate::secret::{refuse_exposed, without_user_info};
use crate::store::StoreSettings;
pub use archive::{ArchiveConfig, MOST_THREADS};
pub use copy::CopyConfig;
pub use error::ConfigError;
pub use hooks::{Hook, HooksConfig};
pub use lvm::{LvmConfig, LvmWindow};
pub use mongo::{AuthMechanism, MongoConfig};
pub use retention::RetentionConfig;
pub use value::{Period, Size, SnapshotSize, StoreUrl};
pub use watch::{MetricsConfig, WatchConfig, WatchScope};

/// Where the configuration is read from unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/freezeframe/freezeframe.toml";

/// The whole configuration.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where backups go.
    pub store: StoreConfig,
    /// Where each of them is copied to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copy: Vec<CopyConfig>,
    /// What a store in S3 needs besides its address.
    #[serde(default)]
    pub s3: S3Config,
    /// How mongod is found and reached, and what makes a member fit.
    #[serde(default)]
    pub mongodb: MongoConfig,
    /// How the database is held still.
    #[serde(default)]
    pub window: WindowConfig,
    /// LVM snapshots.
    #[serde(default)]
    pub lvm: LvmConfig,
    /// EBS snapshots.
    #[serde(default)]
    pub ebs: EbsConfig,
    /// How archives are made.
    #[serde(default)]
    pub archive: ArchiveConfig,
    /// Which backups stay.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// Commands around a backup.
    #[serde(default)]
    pub hooks: HooksConfig,
    /// From when on an operator is to hear of something.
    #[serde(default)]
    pub watch: WatchConfig,
    /// Figures for Prometheus.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// Places on this host.
    #[serde(default)]
    pub host: HostConfig,
    /// Restoring and proving.
    #[serde(default)]
    pub restore: RestoreConfig,
}

/// `[store]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `file:///absolute/path` or `s3://bucket/prefix`
    pub url: StoreUrl,
    /// Read archives back, before the backup counts, where the store cannot prove that it holds what was sent.
    #[serde(default = "StoreConfig::reads_back")]
    pub read_back: bool,
}

impl StoreConfig {
    /// The safe choice.
    pub(crate) fn reads_back() -> bool {
        true
    }
}

/// `[window]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// What takes the picture.
    pub provider: ProviderChoice,
    /// Whether the members are locked while it is taken.
    pub lock: LockChoice,
    /// Longest time the database is held; then the guard unlocks and the backup fails.
    pub max_lock: Period,
    /// The same for the provider "hold", which has no default.
    pub max_hold: Option<Period>,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            provider: ProviderChoice::Auto,
            lock: LockChoice::Always,
            max_lock: Period(Duration::from_secs(10)),
            max_hold: None,
        }
    }
}

/// The providers a configuration can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderChoice {
    /// For each file system the provider that takes pictures of it; never `hold`, which must be asked for.
    Auto,
    /// LVM snapshots alone.
    Lvm,
    /// btrfs snapshots alone.
    Btrfs,
    /// Clones of files alone, on XFS and btrfs.
    Reflink,
    /// EBS snapshots of the instance's volumes, which are the backup; never by "auto".
    Ebs,
    /// No picture: the lock is held while the archive is made.
    Hold,
}

/// When the members are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LockChoice {
    /// In every backup.
    Always,
    /// Only where one snapshot does not hold everything.
    Auto,
}

/// `[host]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// Run journals; must survive a reboot and must not lie on a volume that is snapshotted.
    pub state_dir: PathBuf,
    /// Mount points of snapshots.
    pub runtime_dir: PathBuf,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/freezeframe".into(),
            runtime_dir: "/run/freezeframe".into(),
        }
    }
}

/// `[restore]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestoreConfig {
    /// mongod binary for settling and proving; absent: the one in PATH.
    pub mongod: Option<PathBuf>,
    /// Where `verify --deep` unpacks; absent: a directory below the state directory.
    pub scratch_dir: Option<PathBuf>,
}

impl Config {
    /// Reads and checks the configuration in `path`.
    ///
    /// # Errors
    /// [`ConfigError`] naming file, line and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let config = Self::parse(&text, path)?;
        let is_secret = |s3: &S3Config| s3.proxy.as_ref().is_some_and(ProxyUrl::is_secret);
        let of_copies = || config.copy.iter().filter_map(|copy| copy.s3.as_ref());
        if is_secret(&config.s3) || of_copies().any(is_secret) {
            refuse_exposed(path)?;
        }
        Ok(config)
    }

    /// Every default, for what needs no store: its address leads nowhere.
    pub fn without_store() -> Self {
        Self {
            store: StoreConfig {
                url: StoreUrl::nowhere(),
                read_back: StoreConfig::reads_back(),
            },
            copy: Vec::new(),
            s3: S3Config::default(),
            mongodb: MongoConfig::default(),
            window: WindowConfig::default(),
            lvm: LvmConfig::default(),
            ebs: EbsConfig::default(),
            archive: ArchiveConfig::default(),
            retention: RetentionConfig::default(),
            hooks: HooksConfig::default(),
            watch: WatchConfig::default(),
            metrics: MetricsConfig::default(),
            host: HostConfig::default(),
            restore: RestoreConfig::default(),
        }
    }

    /// Checks the configuration in `text`; `path` is only for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            // The message quotes the line, which may hold an address with a password.
            message: without_user_info(error.to_string().trim_end()),
        })?;
        match config.contradiction() {
            None => Ok(config),
            Some((key, message, fix)) => Err(ConfigError::Inconsistent {
                path: path.to_owned(),
                message: match line_of(text, key) {
                    Some(line) => format!("line {line}: {message}"),
                    None => message.to_owned(),
                },
                fix: fix.to_owned(),
            }),
        }
    }

    /// The first pair of settings that cannot both be meant: the key to point at, what is wrong, what to write.
    fn contradiction(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let mongo = &self.mongodb;
        let x509 = mongo.auth_mechanism == Some(AuthMechanism::X509);
        let rules = [
            (
                self.window.provider == ProviderChoice::Hold && self.window.max_hold.is_none(),
                "provider",
                "provider \"hold\" keeps the database locked while the archive is made and needs a limit",
                "add max_hold = \"10m\" (or what your oplog window allows) to [window]",
            ),
            (
                self.window.max_hold.is_some() && self.window.provider != ProviderChoice::Hold,
                "max_hold",
                "max_hold is set but only provider \"hold\" uses it",
                "remove max_hold, or set provider = \"hold\"",
            ),
            (
                self.window.provider == ProviderChoice::Hold
                    && self.window.lock == LockChoice::Auto,
                "lock",
                "provider \"hold\" reads the live files, which only the lock keeps as they are",
                "remove lock, or set provider = \"auto\"",
            ),
            (
                mongo.password_file.is_some() && mongo.username.is_none(),
                "password_file",
                "password_file is set but no username",
                "add username = \"...\" to [mongodb]",
            ),
            (
                x509 && (!mongo.tls || mongo.tls_certificate_key_file.is_none()),
                "auth_mechanism",
                "MONGODB-X509 needs TLS and a client certificate",
                "add tls = true and tls_certificate_key_file = \"/path/to/client.pem\" to [mongodb]",
            ),
            (
                !mongo.tls
                    && (mongo.tls_ca_file.is_some() || mongo.tls_certificate_key_file.is_some()),
                "tls_",
                "TLS files are named but tls is not on",
                "add tls = true to [mongodb], or remove the tls_ keys",
            ),
            (
                !self.host.state_dir.is_absolute(),
                "state_dir",
                "state_dir is not an absolute path",
                "write the path from the root, such as /var/lib/freezeframe",
            ),
            (
                !self.host.runtime_dir.is_absolute(),
                "runtime_dir",
                "runtime_dir is not an absolute path",
                "write the path from the root, such as /run/freezeframe",
            ),
        ];
        rules
            .into_iter()
            .find(|(broken, ..)| *broken)
            .map(|(_, key, message, fix)| (key, message, fix))
            .or_else(|| self.archive.contradiction())
            .or_else(|| self.retention.contradiction())
            .or_else(|| self.hooks.contradiction())
            .or_else(|| self.s3.contradiction())
            .or_else(|| self.copy_contradiction())
            .or_else(|| self.ebs.contradiction())
            .or_else(|| self.metrics.contradiction())
    }

    /// What opening a store needs besides its address.
    pub fn store_settings(&self) -> StoreSettings {
        let of_copies = self.copy.iter().filter_map(|copy| {
            let s3 = copy.s3.clone()?;
            Some((copy.url.to_string(), s3))
        });
        StoreSettings {
            s3: self.s3.clone(),
            others: of_copies.collect(),
            spool_dir: self.host.state_dir.join("spool"),
            ..StoreSettings::default()
        }
    }

    /// Where `verify --deep` unpacks.
    pub fn scratch_dir(&self) -> PathBuf {
        let given = self.restore.scratch_dir.clone();
        given.unwrap_or_else(|| self.host.state_dir.join("scratch"))
    }

    /// The same configuration with everything written out that depends on this host or on other settings.
    pub fn in_force(&self) -> Self {
        let mut config = self.clone();
        config.archive.threads = Some(self.archive.thread_count());
        if let Method::Portable(level) = self.archive.method() {
            config.archive.level = Some(level.preset());
        }
        config.retention.keep_within = Some(self.retention_rules().keep_within);
        for copy in &mut config.copy {
            copy.retention.keep_within = Some(copy.rules().keep_within);
        }
        config.restore.scratch_dir = Some(self.scratch_dir());
        config
    }

    /// Which backups stay in the first store.
    pub fn retention_rules(&self) -> Rules {
        self.retention.rules(self.store.url.is_s3())
    }

    /// How long the members may be held: `max_lock`, or `max_hold` for the provider "hold".
    pub fn max_window(&self) -> Duration {
        match (self.window.provider, self.window.max_hold) {
            (ProviderChoice::Hold, Some(limit)) => limit.0,
            _ => self.window.max_lock.0,
        }
    }

    /// The effective configuration as TOML. Secrets are named by file; the one that can be written into it, a proxy's
    /// password, is redacted.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

/// The 1-based line on which `key` is set, for messages about contradictions.
fn line_of(text: &str, key: &str) -> Option<usize> {
    text.lines()
        .position(|line| line.trim_start().starts_with(key))
        .map(|index| index + 1)
}

#[cfg(test)]
mod tests;
