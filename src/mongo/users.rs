//! The user that backups need, made by an administrator of the database.

use mongodb::bson::{Bson, Document, doc};

use super::facts::Hello;
use super::facts::parse::hello_facts;
use super::{MongoError, Mongod, Secret};
use crate::ids::MemberAddr;

/// The role's name.
pub const ROLE: &str = "freezeframe";
/// The database that role and user are made in.
pub const USERS_DATABASE: &str = "admin";
/// The server's codes for a role and a user that is there.
const ROLE_EXISTS: i32 = 51002;
const USER_EXISTS: i32 = 51003;
/// Milliseconds that a majority of the set may take to have it.
const REPLICATED_WITHIN: i32 = 30_000;

/// The privileges of the role, as the script for administrators has them: a list in strict JSON.
fn privileges() -> Option<Vec<Bson>> {
    let script = include_str!("../../packaging/mongodb-role.js");
    let (_, rest) = script.split_once("const privileges = ")?;
    let (list, _) = rest.split_once("];")?;
    let list: serde_json::Value = serde_json::from_str(&format!("{list}]")).ok()?;
    match mongodb::bson::serialize_to_bson(&list).ok()? {
        Bson::Array(privileges) => Some(privileges),
        _ => None,
    }
}

impl Mongod {
    /// What it says to who has no user: what it is, and the primary that it knows.
    ///
    /// # Errors
    /// [`MongoError`].
    pub async fn introduction(&self) -> Result<(Hello, Option<MemberAddr>), MongoError> {
        let hello = self.run("hello", doc! { "hello": 1 }).await?;
        let primary = hello.get_str("primary").ok();
        let primary = primary.and_then(|primary| primary.parse().ok());
        Ok((hello_facts(&hello), primary))
    }

    /// Makes role and user, or brings them up to date and gives the user this password. For a primary, as an administrator.
    ///
    /// # Errors
    /// [`MongoError`].
    pub async fn make_backup_user(&self, user: &str, password: &Secret) -> Result<(), MongoError> {
        let privileges = privileges().ok_or_else(|| {
            self.odd_reply("createRole", "this program has no list of privileges")
        })?;
        let concern = doc! { "w": "majority", "wtimeout": REPLICATED_WITHIN };
        let with_concern = |mut command: Document| {
            command.insert("writeConcern", concern.clone());
            command
        };
        let role = |command: &str| {
            with_concern(doc! { command: ROLE, "privileges": privileges.clone(), "roles": [] })
        };
        match self.run("createRole", role("createRole")).await {
            Err(MongoError::Command { code, .. }) if code == ROLE_EXISTS => {
                self.run("updateRole", role("updateRole")).await?;
            }
            made => drop(made?),
        }
        let roles = vec![Bson::from(doc! { "role": ROLE, "db": USERS_DATABASE })];
        let create = doc! { "createUser": user, "pwd": password.reveal(), "roles": roles.clone() };
        match self.run("createUser", with_concern(create)).await {
            Err(MongoError::Command { code, .. }) if code == USER_EXISTS => {
                let update = doc! { "updateUser": user, "pwd": password.reveal() };
                self.run("updateUser", with_concern(update)).await?;
                let grant = doc! { "grantRolesToUser": user, "roles": roles };
                self.run("grantRolesToUser", with_concern(grant)).await?;
            }
            made => drop(made?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_script_has_the_privileges() {
        let privileges = privileges().unwrap();
        let first = privileges[0].as_document().unwrap();
        assert!(
            first
                .get_document("resource")
                .unwrap()
                .get_bool("cluster")
                .unwrap()
        );
        let actions = first.get_array("actions").unwrap();
        assert!(actions.contains(&Bson::from("fsync")) && actions.contains(&Bson::from("unlock")));
    }
}
