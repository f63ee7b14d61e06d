//! How to reach mongod, from what the configuration says and where it says the secrets are.

use std::path::PathBuf;

use super::{AuthMechanism, Config};
use crate::error::Explain;
use crate::mongo::{Access, Mechanism, TlsAccess};
use crate::secret::{Secret, SecretError};

/// Environment variable with the password.
pub const PASSWORD_VARIABLE: &str = "FREEZEFRAME_MONGODB_PASSWORD";
/// Name of the systemd credential with the password.
const PASSWORD_CREDENTIAL: &str = "mongodb-password";

impl Config {
    /// The access to every mongod, with secrets read.
    ///
    /// # Errors
    /// [`SecretError`] when a secret is missing, unreadable or exposed.
    pub fn access(&self) -> Result<Access, SecretError> {
        let mongo = &self.mongodb;
        let mechanism = mongo.auth_mechanism.map(|mechanism| match mechanism {
            AuthMechanism::ScramSha1 => Mechanism::ScramSha1,
            AuthMechanism::ScramSha256 => Mechanism::ScramSha256,
            AuthMechanism::X509 => Mechanism::X509,
        });
        let by_certificate = mechanism == Some(Mechanism::X509);
        let password = match &mongo.username {
            Some(user) if !by_certificate => Some(self.password(user)?),
            _ => None,
        };
        let tls = if mongo.tls {
            Some(TlsAccess {
                ca_file: mongo.tls_ca_file.clone(),
                certificate_key_file: mongo.tls_certificate_key_file.clone(),
                certificate_key_password: mongo
                    .tls_certificate_key_password_file
                    .as_deref()
                    .map(Secret::read)
                    .transpose()?,
            })
        } else {
            None
        };
        Ok(Access {
            username: mongo.username.clone(),
            password,
            auth_source: (!by_certificate).then(|| mongo.auth_source.clone()),
            mechanism,
            tls,
            withheld: None,
        })
    }

    /// The same for who may have no need of it; where a secret cannot be had every attempt to reach a mongod says why.
    pub fn access_if_any(&self) -> Access {
        self.access().unwrap_or_else(|error| Access {
            withheld: Some(error.with_hint()),
            ..Access::default()
        })
    }

    /// The file, else the environment, else the systemd credential.
    fn password(&self, user: &str) -> Result<Secret, SecretError> {
        if let Some(path) = &self.mongodb.password_file {
            return Secret::read(path);
        }
        if let Ok(password) = std::env::var(PASSWORD_VARIABLE) {
            return Ok(Secret::new(password));
        }
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| PathBuf::from(folder).join(PASSWORD_CREDENTIAL));
        match credential {
            Some(path) if path.exists() => Secret::read(&path),
            _ => Err(SecretError::Missing {
                user: user.to_owned(),
            }),
        }
    }

    /// Whether the password is one that a timer of systemd, which inherits nothing from us, cannot read.
    pub fn password_is_private_to_us(&self) -> bool {
        self.mongodb.username.is_some()
            && self.mongodb.password_file.is_none()
            && self.mongodb.auth_mechanism != Some(AuthMechanism::X509)
    }
}
