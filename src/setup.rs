//! `setup`: a configuration that works, and the user that it needs, from a few answers.
//!
//! What is there already is kept: other keys and comments of a configuration, a user that works. Everything is looked at first, shown as a plan, and done
//! when that is confirmed. Each step can be done again, so a setup that was cut off is finished by another one.

mod document;
mod error;
mod files;
mod users;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{AuthMechanism, Config, Period, StoreUrl};
use crate::ids::MemberAddr;
use crate::mongo::Secret;
use crate::mongo::users::USERS_DATABASE;
use document::Document;
pub use error::SetupError;
use files::{keep_what_was, kept_as, make_folder, write_private};
use users::{NewUser, Standing, find_members, needed, wait_for_user};

/// The configuration that ships, in which every key is explained.
const SHIPPED: &str = include_str!("../packaging/freezeframe.toml");
/// The user's name where the configuration names none.
const USER: &str = "freezeframe";
/// The name of the password's file, beside the configuration.
const PASSWORD_FILE: &str = "mongodb-password";
/// How setup introduces itself to mongod.
const APP_NAME: &str = "freezeframe-setup";
/// How long the members may take to know a user that a majority knows.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);

/// What is known before anything is asked.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Where backups go.
    pub store: Option<StoreUrl>,
    /// Whether the store that the configuration names is taken without a question.
    pub keeps_store: bool,
    /// The members to back up; every hidden one of this host where none is named.
    pub members: Vec<MemberAddr>,
    /// How long the database may be held by the provider "hold", where that is to be used.
    pub max_hold: Option<Period>,
    /// The administrator who makes the user.
    pub admin: Option<String>,
    /// Its password.
    pub admin_password: Option<Secret>,
    /// The database it is defined in.
    pub admin_source: String,
    /// Whether a user that is there may get another password.
    pub reset_password: bool,
}

/// Who answers what is not known.
pub trait Ask {
    /// One line; `option` is what would have said it.
    ///
    /// # Errors
    /// [`SetupError::Unanswered`] where nobody can be asked.
    fn line(
        &self,
        question: &str,
        default: Option<&str>,
        option: &'static str,
    ) -> Result<String, SetupError>;

    /// A line that is not shown.
    ///
    /// # Errors
    /// As [`Ask::line`].
    fn secret(&self, question: &str, option: &'static str) -> Result<Secret, SetupError>;
}

/// What is going to be done.
#[derive(Debug)]
pub struct Plan {
    config_file: PathBuf,
    /// The configuration's text then.
    text: String,
    /// The text of now; none where there is no such file.
    before: Option<String>,
    /// The store, where it is a folder that is not there.
    folder: Option<PathBuf>,
    store: StoreUrl,
    members: Vec<MemberAddr>,
    user: Option<NewUser>,
}

/// Looks at everything and asks what is missing. Changes nothing.
///
/// # Errors
/// [`SetupError`].
pub async fn plan(config_file: &Path, wishes: Wishes, ask: &dyn Ask) -> Result<Plan, SetupError> {
    let before = files::read(config_file)?;
    let mut document = Document::parse(before.as_deref().unwrap_or(SHIPPED), config_file)?;
    let configured = document.store();
    let store = match (wishes.store, configured) {
        (Some(store), _) => store,
        (None, Some(store))
            if wishes.keeps_store && before.as_deref().is_some_and(|text| text != SHIPPED) =>
        {
            store.parse().map_err(SetupError::Store)?
        }
        (None, configured) => {
            let question = "Where do backups go (a folder, or s3://bucket/prefix)?";
            let answer = ask.line(question, configured.as_deref(), "--store")?;
            answer.parse().map_err(SetupError::Store)?
        }
    };
    document.set("store", "url", store.to_string());
    if !wishes.members.is_empty() {
        document.set_list(
            "mongodb",
            "members",
            wishes.members.iter().map(ToString::to_string),
        );
    }
    if let Some(limit) = wishes.max_hold {
        document.set("window", "provider", "hold".to_owned());
        document.set("window", "max_hold", limit.to_string());
    }
    let mut config = Config::parse(&document.to_string(), config_file)?;
    let mongo = &config.mongodb;
    let name = mongo.username.clone().unwrap_or_else(|| USER.to_owned());
    let folder = config_file.parent().unwrap_or(Path::new("/"));
    let password_file = mongo.password_file.clone();
    let password_file = password_file.unwrap_or_else(|| folder.join(PASSWORD_FILE));
    let with_user = |document: &mut Document| {
        document.set("mongodb", "username", name.clone());
        let file = password_file.display().to_string();
        document.set("mongodb", "password_file", file);
    };
    // Of a setup that was cut off, or copied from another host of the same replica set.
    if mongo.username.is_none() && password_file.exists() {
        with_user(&mut document);
        config = Config::parse(&document.to_string(), config_file)?;
    }
    let members = find_members(&config).await?;
    let known = |member: &users::Member| member.standing == Standing::Known;
    let user = match members.iter().all(known) {
        true => None,
        false => {
            refuse_other_users(&config)?;
            with_user(&mut document);
            let admin = match wishes.admin {
                Some(admin) => admin,
                None => ask.line(
                    "An administrator of the database, who makes the user?",
                    Some("admin"),
                    "--admin",
                )?,
            };
            let admin_password = match wishes.admin_password {
                Some(password) => password,
                None => ask.secret(
                    &format!("The password of {admin}?"),
                    "--admin-password-file",
                )?,
            };
            let source = wishes.admin_source;
            let access = users::administrator(&config, admin, admin_password, source)?;
            let reset = wishes.reset_password;
            Some(needed(&config, &members, name, password_file, access, reset).await?)
        }
    };
    let folder = store.folder().filter(|folder| !folder.exists());
    let folder = folder.map(Path::to_owned);
    Ok(Plan {
        config_file: config_file.to_owned(),
        text: document.to_string(),
        before,
        folder,
        store,
        members: members.into_iter().map(|member| member.addr).collect(),
        user,
    })
}

/// A user that is made is one of `admin` with a password, so the configuration must not look for another.
fn refuse_other_users(config: &Config) -> Result<(), SetupError> {
    let mongo = &config.mongodb;
    let by_certificate = mongo.auth_mechanism == Some(AuthMechanism::X509);
    match by_certificate || mongo.auth_source != USERS_DATABASE {
        true => Err(SetupError::OtherUser),
        false => Ok(()),
    }
}

impl Plan {
    /// What is going to be done, for a person.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, what: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:14}  {what}");
        };
        let made = if self.folder.is_some() {
            ", which is made"
        } else {
            ""
        };
        line("store", format!("{}{made}", self.store));
        for member in &self.members {
            line("member", member.to_string());
        }
        if let Some(user) = &self.user {
            for (primary, deed) in &user.primaries {
                let what = format!("{} on {primary} {}", user.name, deed.words());
                line("user", what);
            }
            let file = user.password_file.display();
            line(
                "password",
                match user.has_password() {
                    true => format!("the one in {file}"),
                    false => format!("a new one, in {file}"),
                },
            );
        }
        let file = self.config_file.display();
        line(
            "configuration",
            match &self.before {
                Some(before) if *before == self.text => format!("{file} stays as it is"),
                Some(_) => {
                    let kept = kept_as(&self.config_file);
                    format!("{file}; what is there now is kept as {}", kept.display())
                }
                None => file.to_string(),
            },
        );
        text
    }

    /// Does it.
    ///
    /// # Errors
    /// [`SetupError`]; done again it goes on from there.
    pub async fn carry_out(&self) -> Result<(), SetupError> {
        if let Some(folder) = &self.folder {
            make_folder(folder)?;
        }
        if let Some(user) = &self.user {
            let new = user.new_password();
            if let Some(password) = &new {
                // First where it is read: a user whose password nobody knows would be of no use.
                let line = format!("{}\n", password.reveal());
                write_private(&user.password_file, &line, 0o600)?;
            }
            user.make(new.as_ref()).await?;
        }
        if self.before.as_deref() != Some(&self.text) {
            if self.before.is_some() {
                keep_what_was(&self.config_file)?;
            }
            write_private(&self.config_file, &self.text, 0o640)?;
        }
        if self.user.is_some() {
            let config = Config::load(&self.config_file)?;
            wait_for_user(&config, &self.members, KNOWN_WITHIN).await?;
        }
        Ok(())
    }
}
