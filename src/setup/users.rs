//! Which members there are, whether they know our user, and how they come to know it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use uuid::Uuid;

use super::{APP_NAME, SetupError};
use crate::blocking::off_thread;
use crate::config::{Config, ConfigError};
use crate::ids::MemberAddr;
use crate::mongo::facts::Hello;
use crate::mongo::{Access, MongoError, Secret, connect, process};
use crate::secret::SecretError;

/// How long a majority may take to have a role or a user, and somewhat more.
const MADE_WITHIN: Duration = Duration::from_secs(40);
/// How often a member is asked whether it knows the user.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A member that is going to be backed up.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) addr: MemberAddr,
    primary: Option<MemberAddr>,
    pub(super) standing: Standing,
}

/// How a member takes us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It lets us do what a backup does, or what keeps us from it is no matter of users: `check` tells.
    Known,
    /// It knows us, and our role lacks something.
    LacksRole,
    /// It wants a user that we are not.
    NoUser,
}

/// A user that is going to be made, or changed.
#[derive(Debug)]
pub(super) struct NewUser {
    pub(super) name: String,
    pub(super) password_file: PathBuf,
    /// The password that the file has, which stays where there is one: other members know it.
    kept: Option<Secret>,
    /// What is to be done on each primary.
    pub(super) primaries: BTreeMap<MemberAddr, Deed>,
    administrator: Access,
    timeout: Duration,
}

/// What is to be done on a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deed {
    /// The user is there and works; the role is brought up to date.
    Grant,
    /// The user is made.
    Make,
    /// The user is there, and gets our password.
    Reset,
}

impl Deed {
    /// It in words, after the user's name.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Grant => "is there, and its role is brought up to date",
            Self::Make => "with the least role that a backup needs",
            Self::Reset => {
                "is there, and gets ANOTHER PASSWORD: whatever else uses it fails until it has that, too"
            }
        }
    }
}

/// The access without any user: what everybody is told.
///
/// # Errors
/// [`SetupError::Config`] where a certificate's key cannot be read: nobody is to be talked to in the clear instead.
fn nobody(config: &Config) -> Result<Access, SetupError> {
    let mut config = config.clone();
    config.mongodb.username = None;
    config.mongodb.auth_mechanism = None;
    Ok(config.access().map_err(ConfigError::from)?)
}

/// The access that the configuration says; none where the password's file is not there yet.
///
/// # Errors
/// [`SetupError::Config`] where a secret is exposed, empty or cannot be read; [`SetupError::Elsewhere`] where it is not in a file.
fn ours(config: &Config) -> Result<Option<Access>, SetupError> {
    match config.access() {
        Ok(_) | Err(SecretError::Missing { .. }) if config.password_is_private_to_us() => {
            Err(SetupError::Elsewhere)
        }
        Ok(access) => Ok(Some(access)),
        Err(SecretError::Read { path, source })
            if source.kind() == std::io::ErrorKind::NotFound
                && config.mongodb.password_file.as_ref() == Some(&path) =>
        {
            Ok(None)
        }
        Err(error) => Err(ConfigError::from(error).into()),
    }
}

/// The members that the configuration names, else the hidden ones of this host.
///
/// # Errors
/// [`SetupError::NoMember`]; or why one of them does not answer.
pub(super) async fn find_members(config: &Config) -> Result<Vec<Member>, SetupError> {
    let named = &config.mongodb.members;
    if !named.is_empty() {
        let looking = named.iter().map(|addr| async {
            let (member, hello) = look(addr, config).await?;
            match unfit(&hello, config.mongodb.allow_visible_secondary) {
                Some(what) => Err(SetupError::Unfit {
                    member: addr.clone(),
                    set: hello.set,
                    what,
                }),
                None => Ok(member),
            }
        });
        return join_all(looking).await.into_iter().collect();
    }
    let running = off_thread(process::running).await?;
    let (mut members, mut others) = (Vec::new(), Vec::new());
    for running in running {
        let excluded = |addr: &MemberAddr| {
            let mut excluded = config.mongodb.exclude.iter();
            excluded.any(|other| other.is_same_place(addr))
        };
        if running.listens.iter().any(excluded) {
            continue;
        }
        let mut failed = None;
        let mut found = None;
        for addr in &running.listens {
            match look(addr, config).await {
                Ok(answer) => {
                    found = Some(answer);
                    break;
                }
                Err(SetupError::Mongo(error)) => failed = Some(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        match found {
            Some((member, hello)) if hello.hidden => members.push(member),
            Some((member, _)) => others.push(format!("{} (not hidden)", member.addr)),
            None => others.push(failed.unwrap_or_else(|| format!("process {}", running.pid))),
        }
    }
    match members.is_empty() {
        true => Err(SetupError::NoMember { found: others }),
        false => Ok(members),
    }
}

/// What `check` will not take of a member whatever else is done; what may change by itself is for `check` to tell.
fn unfit(hello: &Hello, visible_allowed: bool) -> Option<&'static str> {
    if hello.set.is_none() {
        Some("is a member of no replica set")
    } else if hello.arbiter {
        Some("is an ARBITER and holds no data")
    } else if hello.is_writable_primary {
        Some("is PRIMARY")
    } else if hello.secondary && !hello.hidden && !visible_allowed {
        Some("is not hidden")
    } else {
        None
    }
}

/// What the mongod at `addr` is, and how it introduces itself.
async fn look(addr: &MemberAddr, config: &Config) -> Result<(Member, Hello), SetupError> {
    let timeout = config.mongodb.timeout.0;
    let mongod = connect(addr, &nobody(config)?, APP_NAME, timeout).await?;
    let (hello, primary) = mongod.introduction().await?;
    let standing = match ours(config)? {
        Some(access) => standing(addr, &access, timeout).await,
        None => Standing::NoUser,
    };
    let member = Member {
        addr: addr.clone(),
        primary,
        standing,
    };
    Ok((member, hello))
}

/// How the mongod at `addr` takes who has `access`.
async fn standing(addr: &MemberAddr, access: &Access, timeout: Duration) -> Standing {
    let asked = async {
        let mongod = connect(addr, access, APP_NAME, timeout).await?;
        mongod.facts().await
    };
    match asked.await {
        Ok(facts) if facts.missing_actions.is_empty() => Standing::Known,
        Ok(_) | Err(MongoError::Unauthorized { .. }) => Standing::LacksRole,
        Err(MongoError::NoCredential { .. } | MongoError::Authentication { .. }) => {
            Standing::NoUser
        }
        // That is for `check` to tell.
        Err(_) => Standing::Known,
    }
}

/// The access of the administrator `name`, with what else the configuration says of connections.
///
/// # Errors
/// As of [`nobody`].
pub(super) fn administrator(
    config: &Config,
    name: String,
    password: Secret,
    source: String,
) -> Result<Access, SetupError> {
    Ok(Access {
        username: Some(name),
        password: Some(password),
        auth_source: Some(source),
        ..nobody(config)?
    })
}

/// The user `name` on the primaries of `members`, as far as something is to be done there. All of them get the same password, which is the file's where it has one.
///
/// # Errors
/// [`SetupError::UserExists`] where one would lose its password and `reset` is not said; [`SetupError::NoPrimary`], [`SetupError::Mongo`].
pub(super) async fn needed(
    config: &Config,
    members: &[Member],
    name: String,
    password_file: PathBuf,
    administrator: Access,
    reset: bool,
) -> Result<NewUser, SetupError> {
    let timeout = config.mongodb.timeout.0;
    let kept = ours(config)?.and_then(|access| access.password);
    let mut primaries: BTreeMap<MemberAddr, Deed> = BTreeMap::new();
    for member in members {
        // With a new password all of them need it.
        if member.standing == Standing::Known && kept.is_some() {
            continue;
        }
        let primary = member.primary.clone();
        let primary = primary.ok_or_else(|| SetupError::NoPrimary {
            member: member.addr.clone(),
        })?;
        let mongod = connect(&primary, &administrator, APP_NAME, timeout).await?;
        let deed = match (member.standing, mongod.has_user(&name).await?) {
            (Standing::LacksRole, true) if kept.is_some() => Deed::Grant,
            (_, false) => Deed::Make,
            (_, true) if reset => Deed::Reset,
            (_, true) => {
                return Err(SetupError::UserExists {
                    user: name,
                    primary,
                    password_file,
                });
            }
        };
        let known = primaries.entry(primary).or_insert(deed);
        *known = deed.max(*known);
    }
    Ok(NewUser {
        name,
        password_file,
        kept,
        primaries,
        administrator,
        timeout,
    })
}

impl NewUser {
    /// Whether the file has its password.
    pub(super) fn has_password(&self) -> bool {
        self.kept.is_some()
    }

    /// The password that it gets where the file has none.
    pub(super) fn new_password(&self) -> Option<Secret> {
        self.kept.is_none().then(random_password)
    }

    /// Does what is to be done, with `new` where there is no password yet.
    ///
    /// # Errors
    /// [`MongoError`].
    pub(super) async fn make(&self, new: Option<&Secret>) -> Result<(), MongoError> {
        let Some(password) = new.or(self.kept.as_ref()) else {
            return Ok(());
        };
        for (primary, deed) in &self.primaries {
            let mongod = connect(primary, &self.administrator, APP_NAME, self.timeout).await?;
            let mongod = mongod.with_timeout(MADE_WITHIN);
            mongod.make_backup_role().await?;
            match deed {
                Deed::Grant => mongod.change_backup_user(&self.name, None).await?,
                Deed::Make => mongod.make_backup_user(&self.name, password).await?,
                Deed::Reset => {
                    mongod
                        .change_backup_user(&self.name, Some(password))
                        .await?;
                }
            }
        }
        Ok(())
    }
}

/// A password that nobody has to remember: 244 bits of chance.
fn random_password() -> Secret {
    Secret::new(format!(
        "{}{}",
        Uuid::new_v4().simple(),
        Uuid::new_v4().simple()
    ))
}

/// Waits until `members` have the user by replication.
///
/// # Errors
/// The last answer of one that does not know it within `limit`.
pub(super) async fn wait_for_user(
    config: &Config,
    members: &[MemberAddr],
    limit: Duration,
) -> Result<(), SetupError> {
    let began = Instant::now();
    let access = config.access().map_err(ConfigError::from)?;
    for member in members {
        while let Err(error) = connect(member, &access, APP_NAME, config.mongodb.timeout.0).await {
            let passes = matches!(error, MongoError::Authentication { .. });
            if !passes || began.elapsed() > limit {
                return Err(error.into());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongo::users::USERS_DATABASE;

    #[test]
    fn the_user_is_made_where_the_configuration_looks_for_it() {
        let config = Config::without_store();
        assert_eq!(config.mongodb.auth_source, USERS_DATABASE);
        assert_ne!(random_password().reveal(), random_password().reveal());
    }
}
