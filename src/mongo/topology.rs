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
        self.addr.as_ref() == Some(addr) || me == Some(addr)
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
) -> Result<Vec<Discovered>, SearchFailed> {
    let running = off_thread(process::running).await?;
    let wanted = running
        .into_iter()
        .filter(|running| !running.listens.iter().any(|addr| exclude.contains(addr)));
    let found = join_all(wanted.map(|running| ask_process(running, access, app_name, timeout)));
    Ok(found
        .await
        .into_iter()
        .filter(|found| !exclude.iter().any(|addr| found.is_at(addr)))
        .collect())
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Members to back up: as configured, else every hidden secondary found.
    pub members: Vec<MemberAddr>,
    /// Other mongods of this host, each as a warning says it.
    pub others: Vec<String>,
}

/// Chooses the members: those `configured`, or when none are, every hidden member discovered.
///
/// Hidden members in a bad state are chosen too: the preflight refuses them by name, where
/// leaving them out would make a smaller backup without a word.
pub fn choose(discovered: &[Discovered], configured: &[MemberAddr]) -> Choice {
    let hidden = |found: &Discovered| match &found.facts {
        Some(Ok(facts)) => facts.hello.hidden && !facts.hello.arbiter,
        _ => false,
    };
    let chosen = |found: &Discovered| {
        if configured.is_empty() {
            hidden(found)
        } else {
            configured.iter().any(|addr| found.is_at(addr))
        }
    };
    let members = if configured.is_empty() {
        discovered
            .iter()
            .filter(|found| hidden(found))
            .filter_map(|found| found.addr.clone())
            .collect()
    } else {
        configured.to_vec()
    };
    let others = discovered
        .iter()
        .filter(|found| !chosen(found))
        .map(describe)
        .collect();
    Choice { members, others }
}

fn describe(found: &Discovered) -> String {
    let name = found.name();
    match &found.facts {
        None => format!(
            "mongod {name} listens on no address this host can reach (a container?); it is not backed up"
        ),
        Some(Err(error @ MongoError::Arbiter { .. })) => format!("{error}; it is not backed up"),
        Some(Err(error)) => {
            format!("mongod at {name} cannot be read and is not backed up: {error}")
        }
        Some(Ok(facts)) => {
            let state = match &facts.replica_set {
                Some(set) if facts.hello.hidden => format!("a hidden {}", set.my_state),
                Some(set) => format!("a {}", set.my_state),
                None => "a standalone server".into(),
            };
            let of = facts.hello.set.as_ref();
            let of = of.map(|set| format!(" of {set}")).unwrap_or_default();
            format!("mongod at {name} is {state}{of}; it is not backed up")
        }
    }
}
