//! How freezeframe logs in to a test's replica set.

use freezeframe::mongo::{Access, Mechanism, Secret, TlsAccess};
use mongodb::bson::{Bson, doc};

use super::certs::CLIENT_SUBJECT;
use super::mongod::{PASSWORD, ReplicaSet};

impl ReplicaSet {
    /// How freezeframe reaches the set without authentication.
    pub fn access(&self) -> Access {
        Access {
            tls: self.certs.as_ref().map(|certs| TlsAccess {
                ca_file: Some(certs.ca.clone()),
                ..TlsAccess::default()
            }),
            ..Access::default()
        }
    }

    /// Makes the shipped role and a user with it, and gives how freezeframe logs in.
    pub async fn minimum_access(&self) -> Access {
        let privileges = shipped_privileges();
        let admin = self.admin(0).await.database("admin");
        admin
            .run_command(
                doc! { "createRole": "freezeframe", "privileges": privileges, "roles": [] },
            )
            .await
            .expect("createRole");
        admin
            .run_command(doc! {
                "createUser": "freezeframe",
                "pwd": PASSWORD,
                "roles": ["freezeframe"],
                "writeConcern": { "w": self.voters().await },
            })
            .await
            .expect("createUser");
        Access {
            username: Some("freezeframe".into()),
            password: Some(Secret::new(PASSWORD)),
            mechanism: Some(Mechanism::ScramSha256),
            ..self.access()
        }
    }

    /// Makes a user of the client certificate's subject with the role, and gives how freezeframe logs in.
    pub async fn x509_access(&self) -> Access {
        let external = self.admin(0).await.database("$external");
        external
            .run_command(doc! {
                "createUser": CLIENT_SUBJECT,
                "roles": [{ "role": "freezeframe", "db": "admin" }],
                "writeConcern": { "w": self.voters().await },
            })
            .await
            .expect("createUser");
        let certs = self.certs.as_ref().expect("a set with TLS");
        Access {
            mechanism: Some(Mechanism::X509),
            tls: Some(TlsAccess {
                ca_file: Some(certs.ca.clone()),
                certificate_key_file: Some(certs.client.clone()),
                ..TlsAccess::default()
            }),
            ..Access::default()
        }
    }

    /// Members that hold data: a write to all of them is everywhere.
    async fn voters(&self) -> i32 {
        let reply = self
            .admin(0)
            .await
            .database("admin")
            .run_command(doc! { "replSetGetConfig": 1 })
            .await
            .unwrap();
        let members = reply
            .get_document("config")
            .unwrap()
            .get_array("members")
            .unwrap();
        members
            .iter()
            .filter(|member| {
                let member = member.as_document().unwrap();
                !member.get_bool("arbiterOnly").unwrap_or(false)
            })
            .count() as i32
    }
}

/// The privileges of packaging/mongodb-role.js, as it ships.
pub fn shipped_privileges() -> Vec<Bson> {
    let script = include_str!("../../packaging/mongodb-role.js");
    let (_, rest) = script.split_once("const privileges = ").unwrap();
    let (json, _) = rest.split_once("];").unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&format!("{json}]")).unwrap();
    match mongodb::bson::serialize_to_bson(&parsed).unwrap() {
        Bson::Array(privileges) => privileges,
        other => panic!("not a list: {other}"),
    }
}
