//! Which mongods are on this host, and which of them are to be backed up.

use std::time::Duration;

use futures_util::future::join_all;

use super::process::{self, Running, SearchFailed};
use super::{Access, MemberFacts, MongoError, connect};
use crate::blocking::off_thread;
use crate::ids::MemberAddr;

/// A mongod of this host, or one the configuration names.
#[derive(Debug, Clone)]
pub struct Discovered {
    /// Where it was asked; none when it listens nowhere we can reach, as in a container.
    pub addr: Option<MemberAddr>,
    /// Its process id on this host; none for one the configuration names.
    pub pid: Option<u32>,
    /// What it says about itself; an error of the last address tried, or none without an address.
    pub facts: Option<Result<MemberFacts, MongoError>>,
    /// It was not asked because only root, or the user it runs as, may see where it listens.
    pub concealed: bool,
}

/// The mongods of this host.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Those the operator wants to hear of.
    pub mongods: Vec<Discovered>,
    /// The others, as the configuration names them.
    pub excluded: Vec<MemberAddr>,
}

impl Discovered {
    /// How to name it to an operator.
    pub fn name(&self) -> String {
        match (&self.addr, self.pid) {
            (Some(addr), _) => addr.to_string(),
            (None, Some(pid)) => format!("process {pid}"),
            (None, None) => "an unknown mongod".into(),
        }
    }

    /// Whether `addr` means this server: where it was asked, or the name its set knows it by.
    pub fn is_at(&self, addr: &MemberAddr) -> bool {
        let me = match &self.facts {
            Some(Ok(facts)) => facts.hello.me.as_ref(),
            _ => None,
        };
        let is = |own: &MemberAddr| own.is_same_place(addr);
        self.addr.as_ref().is_some_and(is) || me.is_some_and(is)
    }
}

/// Finds the mongods of this host by their processes and asks each what it is, all at once.
///
/// `exclude` are ports or names the operator does not want to hear of. A process is asked at
/// each address it listens on until one answers, and must name itself by the process id found.
///
/// # Errors
/// [`SearchFailed`] when processes cannot be listed; a mongod that does not answer is in the list.
pub async fn discover(
    access: &Access,
    app_name: &str,
    exclude: &[MemberAddr],
    timeout: Duration,
) -> Result<Found, SearchFailed> {
    let running = off_thread(process::running).await?;
    let mut excluded = Vec::new();
    let mut wanted = Vec::new();
    for running in running {
        let excluding = |addr: &&MemberAddr| {
            let mut listens = running.listens.iter();
            listens.any(|own| own.is_same_place(addr))
        };
        match exclude.iter().find(excluding) {
            Some(addr) => excluded.push(addr.clone()),
            None => wanted.push(ask_process(running, access, app_name, timeout)),
        }
    }
    let mut mongods = Vec::new();
    for found in join_all(wanted).await {
        match exclude.iter().find(|addr| found.is_at(addr)) {
            Some(addr) => excluded.push(addr.clone()),
            None => mongods.push(found),
        }
    }
    Ok(Found { mongods, excluded })
}

async fn ask_process(
    running: Running,
    access: &Access,
    app_name: &str,
    timeout: Duration,
) -> Discovered {
    let mut found = Discovered {
        addr: None,
        pid: Some(running.pid),
        facts: None,
        concealed: running.concealed,
    };
    for addr in &running.listens {
        let facts = ask(addr, access, app_name, timeout).await;
        let facts = facts.and_then(|facts| {
            if facts.pid == running.own_pid {
                Ok(facts)
            } else {
                Err(MongoError::Reply {
                    addr: addr.clone(),
                    command: "serverStatus",
                    detail: format!(
                        "process {} answers where process {} listens",
                        facts.pid, running.own_pid
                    ),
                })
            }
        });
        let answered = facts.is_ok();
        found.addr = Some(addr.clone());
        found.facts = Some(facts);
        if answered {
            break;
        }
    }
    found
}

async fn ask(
    addr: &MemberAddr,
    access: &Access,
    app_name: &str,
    timeout: Duration,
) -> Result<MemberFacts, MongoError> {
    connect(addr, access, app_name, timeout)
        .await?
        .facts()
        .await
}

/// What is to be backed up, and what else is there.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Members to back up: as configured, else every hidden secondary found.
    pub members: Vec<MemberAddr>,
    /// Other mongods of this host.
    pub others: Vec<Discovered>,
}

/// Chooses the members: those `configured`, or when none are, every hidden member discovered.
///
/// Hidden members in a bad state are chosen too: the preflight refuses them by name, where
/// leaving them out would make a smaller backup without a word.
pub fn choose(discovered: Vec<Discovered>, configured: &[MemberAddr]) -> Choice {
    let hidden = |found: &Discovered| match &found.facts {
        Some(Ok(facts)) => facts.hello.hidden && !facts.hello.arbiter,
        _ => false,
    };
    let chosen = |found: &Discovered| match configured {
        [] => hidden(found),
        configured => configured.iter().any(|addr| found.is_at(addr)),
    };
    let (chosen, others): (Vec<_>, _) = discovered.into_iter().partition(chosen);
    let members = match configured {
        [] => chosen.into_iter().filter_map(|found| found.addr).collect(),
        configured => configured.to_vec(),
    };
    Choice { members, others }
}
