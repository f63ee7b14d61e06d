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
/// The server's code for a role that is there.
const ROLE_EXISTS: i32 = 51002;
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

    /// Makes the role, or brings it up to date. For a primary, as an administrator, as all that follows.
    ///
    /// # Errors
    /// [`MongoError`].
    pub async fn make_backup_role(&self) -> Result<(), MongoError> {
        let privileges = privileges().ok_or_else(|| {
            self.odd_reply("createRole", "this program has no list of privileges")
        })?;
        let role = |command: &str| {
            with_concern(doc! { command: ROLE, "privileges": privileges.clone(), "roles": [] })
        };
        match self.run("createRole", role("createRole")).await {
            Err(MongoError::Command { code, .. }) if code == ROLE_EXISTS => {
                self.run("updateRole", role("updateRole")).await.map(drop)
            }
            made => made.map(drop),
        }
    }

    /// Whether there is such a user.
    ///
    /// # Errors
    /// [`MongoError`].
    pub async fn has_user(&self, user: &str) -> Result<bool, MongoError> {
        let reply = self.run("usersInfo", doc! { "usersInfo": user }).await?;
        let users = reply.get_array("users");
        let users = users.map_err(|error| self.odd_reply("usersInfo", error.to_string()))?;
        Ok(!users.is_empty())
    }

    /// Makes a user with the role.
    ///
    /// # Errors
    /// [`MongoError`], also where there is one of that name.
    pub async fn make_backup_user(&self, user: &str, password: &Secret) -> Result<(), MongoError> {
        let create = doc! { "createUser": user, "pwd": password.reveal(), "roles": roles() };
        self.run("createUser", with_concern(create)).await.map(drop)
    }

    /// Gives the user the role, and another password where one is told.
    ///
    /// # Errors
    /// [`MongoError`].
    pub async fn change_backup_user(
        &self,
        user: &str,
        password: Option<&Secret>,
    ) -> Result<(), MongoError> {
        let grant = doc! { "grantRolesToUser": user, "roles": roles() };
        self.run("grantRolesToUser", with_concern(grant)).await?;
        if let Some(password) = password {
            let update = doc! { "updateUser": user, "pwd": password.reveal() };
            self.run("updateUser", with_concern(update)).await?;
        }
        Ok(())
    }
}

fn roles() -> Vec<Bson> {
    vec![Bson::from(doc! { "role": ROLE, "db": USERS_DATABASE })]
}

/// A majority has it when the command has been answered.
fn with_concern(mut command: Document) -> Document {
    command.insert(
        "writeConcern",
        doc! { "w": "majority", "wtimeout": REPLICATED_WITHIN },
    );
    command
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
