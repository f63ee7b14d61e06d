//! Which members there are, whether they know our user, and how they come to know it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use uuid::Uuid;

use super::{APP_NAME, SetupError};
use crate::blocking::off_thread;
use crate::config::Config;
use crate::ids::MemberAddr;
use crate::mongo::{Access, MongoError, Secret, connect, process};

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
    /// It wants a user that we are not.
    NoUser,
}

/// A user that is going to be made.
#[derive(Debug)]
pub(super) struct NewUser {
    pub(super) name: String,
    pub(super) password_file: PathBuf,
    /// Of each replica set one.
    pub(super) primaries: BTreeSet<MemberAddr>,
    administrator: Access,
    timeout: Duration,
}

/// The access without any user: what everybody is told.
fn nobody(config: &Config) -> Access {
    let mut config = config.clone();
    config.mongodb.username = None;
    config.mongodb.auth_mechanism = None;
    // Without a user no secret but that of a certificate is read, and whoever connects learns of that.
    config.access().unwrap_or_default()
}

/// The members that the configuration names, else the hidden ones of this host.
///
/// # Errors
/// [`SetupError::NoMember`]; or why one of them does not answer.
pub(super) async fn find_members(config: &Config) -> Result<Vec<Member>, SetupError> {
    let named = &config.mongodb.members;
    if !named.is_empty() {
        let looking = named.iter().map(|addr| look(addr, config));
        return join_all(looking)
            .await
            .into_iter()
            .map(|found| found.map(|(member, _)| member).map_err(SetupError::from))
            .collect();
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
                Err(error) => failed = Some(error.to_string()),
            }
        }
        match found {
            Some((member, true)) => members.push(member),
            Some((member, false)) => others.push(format!("{} (not hidden)", member.addr)),
            None => others.push(failed.unwrap_or_else(|| format!("process {}", running.pid))),
        }
    }
    match members.is_empty() {
        true => Err(SetupError::NoMember { found: others }),
        false => Ok(members),
    }
}

/// What the mongod at `addr` is, and whether it is hidden.
async fn look(addr: &MemberAddr, config: &Config) -> Result<(Member, bool), MongoError> {
    let timeout = config.mongodb.timeout.0;
    let mongod = connect(addr, &nobody(config), APP_NAME, timeout).await?;
    let (hello, primary) = mongod.introduction().await?;
    let member = Member {
        addr: addr.clone(),
        primary,
        standing: standing(addr, config).await?,
    };
    Ok((member, hello.hidden))
}

/// How the mongod at `addr` takes who the configuration says that we are.
async fn standing(addr: &MemberAddr, config: &Config) -> Result<Standing, MongoError> {
    // A password that is not there yet is made with the user.
    let Ok(access) = config.access() else {
        return Ok(Standing::NoUser);
    };
    let asked = async {
        let mongod = connect(addr, &access, APP_NAME, config.mongodb.timeout.0).await?;
        mongod.facts().await
    };
    match asked.await {
        Ok(facts) if facts.missing_actions.is_empty() => Ok(Standing::Known),
        Ok(_) => Ok(Standing::NoUser),
        Err(error) if error.is_denied() => Ok(Standing::NoUser),
        Err(MongoError::Authentication { .. }) => Ok(Standing::NoUser),
        // That is for `check` to tell.
        Err(_) => Ok(Standing::Known),
    }
}

/// The access of the administrator `name`, with what else the configuration says of connections.
pub(super) fn administrator(
    config: &Config,
    name: String,
    password: Secret,
    source: String,
) -> Access {
    Access {
        username: Some(name),
        password: Some(password),
        auth_source: Some(source),
        ..nobody(config)
    }
}

/// The user that `members` want, on the primary of each one's replica set. Sees to it that the administrator is one there.
///
/// # Errors
/// [`SetupError::NoPrimary`], [`SetupError::Mongo`].
pub(super) async fn needed(
    config: &Config,
    members: &[&Member],
    name: String,
    password_file: PathBuf,
    administrator: Access,
) -> Result<NewUser, SetupError> {
    let mut primaries = BTreeSet::new();
    for member in members {
        let primary = member
            .primary
            .clone()
            .ok_or_else(|| SetupError::NoPrimary {
                member: member.addr.clone(),
            })?;
        primaries.insert(primary);
    }
    let timeout = config.mongodb.timeout.0;
    for primary in &primaries {
        connect(primary, &administrator, APP_NAME, timeout).await?;
    }
    Ok(NewUser {
        name,
        password_file,
        primaries,
        administrator,
        timeout,
    })
}

impl NewUser {
    /// Makes it.
    ///
    /// # Errors
    /// [`MongoError`].
    pub(super) async fn make(&self, password: &Secret) -> Result<(), MongoError> {
        for primary in &self.primaries {
            let mongod = connect(primary, &self.administrator, APP_NAME, self.timeout).await?;
            let mongod = mongod.with_timeout(MADE_WITHIN);
            mongod.make_backup_user(&self.name, password).await?;
        }
        Ok(())
    }
}

/// A password that nobody has to remember: 244 bits of chance.
pub(super) fn random_password() -> Secret {
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
    let access = config.access().map_err(crate::config::ConfigError::from)?;
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
