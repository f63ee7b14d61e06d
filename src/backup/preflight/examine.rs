//! Looks at everything a backup will need, and makes the plan of it where nothing stands in the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use super::member::{MemberLimits, judge, judge_cluster, judge_together, judge_unreadable};
use super::storage::{self, OwnPath, Place};
use super::{Finding, Verdict, worst};
use crate::archive;
use crate::backup::Environment;
use crate::backup::plan::{PicturePlan, Plan, PlannedMember, View};
use crate::catalog;
use crate::config::ProviderChoice;
use crate::error::{Exit, Explain};
use crate::ids::{DeploymentId, RunId};
use crate::manifest::{Deployment, Role};
use crate::mongo::balancer::cluster_facts;
use crate::mongo::topology::{choose, discover};
use crate::mongo::{self, MemberFacts, Mongod};
use crate::recover::leftovers;
use crate::snapshot::lvm::Lvm;
use crate::snapshot::lvm::plan::{Planned, Sizing, expected_duration, plan};
use crate::snapshot::rate;
use crate::volume::{DataLayout, DevNumber, HostView, resolve};

/// How long the write rate of the origins is watched.
const RATE_SAMPLE: Duration = Duration::from_secs(2);
/// Bytes a second that one thread is expected to archive until a backup has shown the real rate: on the slow
/// side, because too long an expectation only asks for more snapshot space.
const RATE_PER_THREAD: u64 = 10 << 20;
/// A live data directory is walked again this often when a file vanishes under the walk.
const WALKS: u32 = 5;

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// At least one check refuses the backup.
    #[error("{}", list(findings))]
    Refused {
        /// All findings.
        findings: Vec<Finding>,
    },
    /// We were asked to end.
    #[error("interrupted")]
    Interrupted,
}

fn list(findings: &[Finding]) -> String {
    let refused: Vec<_> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Refused)
        .collect();
    let line = |finding: &&Finding| format!("\n  {}: {}", finding.subject, finding.detail);
    format!(
        "refused, nothing was touched:{}",
        refused.iter().map(line).collect::<String>()
    )
}

impl Explain for PreflightError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { findings } => {
                let refused = findings
                    .iter()
                    .filter(|finding| finding.verdict == Verdict::Refused);
                let mut todo: Vec<_> = refused.filter_map(|finding| finding.todo.clone()).collect();
                todo.dedup();
                Some(todo.join("; ") + " (`freezeframe check` shows everything)")
            }
            Self::Interrupted => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Refused { .. } => Exit::Refused,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// Everything that was found. Its serialized form is what `check --json` prints.
#[derive(Debug, Serialize)]
pub struct Examination {
    /// Every line.
    pub findings: Vec<Finding>,
    /// Bytes that will be read.
    pub data_bytes: u64,
    /// How long all archives together will take, in seconds.
    pub expected_seconds: u64,
    /// Copy-on-write space that the snapshots will take.
    pub snapshot_bytes: u64,
    /// Where the members' data lies.
    pub layouts: Vec<DataLayout>,
    #[serde(skip)]
    plan: Option<Plan>,
}

impl Examination {
    /// The plan, if nothing refuses it.
    ///
    /// # Errors
    /// [`PreflightError::Refused`] with all findings.
    pub fn into_plan(self) -> Result<Plan, PreflightError> {
        match self.plan {
            Some(plan) if worst(&self.findings) < Verdict::Refused => Ok(plan),
            _ => Err(PreflightError::Refused {
                findings: self.findings,
            }),
        }
    }
}

/// Looks at members, volumes, store and host for the run `run`. Takes nothing, changes nothing.
///
/// # Errors
/// Only [`PreflightError::Interrupted`]; whatever else goes wrong is a finding.
pub async fn examine(env: &Environment, run: RunId) -> Result<Examination, PreflightError> {
    let looking = async {
        let mut findings = Vec::new();
        look_at_host(env, &mut findings);
        look_at_store(env, &mut findings).await;
        let members = look_at_members(env, run, &mut findings).await;
        let deployment = identify(&members, &mut findings);
        look_at_volumes(env, run, members, deployment, findings).await
    };
    tokio::select! {
        examined = looking => Ok(examined),
        () = env.cancel.cancelled() => Err(PreflightError::Interrupted),
    }
}

fn look_at_host(env: &Environment, findings: &mut Vec<Finding>) {
    let state = env.config.host.state_dir.display().to_string();
    match leftovers(&env.config.host.state_dir) {
        Ok(left) if left.is_empty() => {
            findings.push(Finding::ok(state, "leftovers", "no dead run left anything"))
        }
        Ok(left) => findings.extend(left.into_iter().map(|left| {
            let detail = format!(
                "run {} died and left: {}",
                left.run,
                left.resources.join(", ")
            );
            Finding::refused(&state, "leftovers", detail, "run `freezeframe recover`")
        })),
        Err(error) => {
            let todo = error.hint().unwrap_or_default();
            findings.push(Finding::refused(
                state,
                "leftovers",
                error.to_string(),
                todo,
            ));
        }
    }
    findings.push(match env.tools.systemd {
        Some(_) if env.config.password_is_private_to_us() => Finding::warning(
            "systemd",
            "recovery_timer",
            "the recovery timer cannot read a password that only this process has",
            "put the password into [mongodb] password_file",
        ),
        Some(_) => Finding::ok("systemd", "recovery_timer", "the recovery timer can be armed"),
        None => Finding::warning(
            "systemd",
            "recovery_timer",
            "no system manager, or not root: if freezeframe and its guard are both killed in the window, the lock stays",
            "run as root on a host with systemd; else run `freezeframe recover` after such a death",
        ),
    });
}

async fn look_at_store(env: &Environment, findings: &mut Vec<Finding>) {
    let url = env.store.url();
    findings.push(match env.store.probe().await {
        Ok(()) => Finding::ok(url, "store", "can be written and read"),
        Err(error) => {
            let todo = error.hint().unwrap_or_else(|| "see [store] url".into());
            Finding::refused(url, "store", error.to_string(), todo)
        }
    });
}

/// A member that answered, with the cluster it belongs to.
struct Member {
    mongod: Mongod,
    facts: MemberFacts,
    cluster_id: Option<DeploymentId>,
}

async fn look_at_members(
    env: &Environment,
    run: RunId,
    findings: &mut Vec<Finding>,
) -> Vec<Member> {
    let app_name = format!("freezeframe-{run}");
    let mongodb = &env.config.mongodb;
    let found = discover(
        &env.tools.access,
        &app_name,
        &mongodb.exclude,
        env.tools.timeout,
    )
    .await;
    let found = found.unwrap_or_else(|error| {
        let todo = error.hint().unwrap_or_default();
        findings.push(Finding::warning(
            "host",
            "discovery",
            error.to_string(),
            todo,
        ));
        Vec::new()
    });
    let choice = choose(&found, &mongodb.members);
    findings.extend(choice.others.into_iter().map(|other| {
        Finding::warning(
            "host",
            "other_mongod",
            other,
            "name it in [mongodb] members or exclude",
        )
    }));
    if choice.members.is_empty() {
        findings.push(Finding::refused(
            "host",
            "members",
            "no hidden secondary runs on this host",
            "run freezeframe where one runs, or name the members in [mongodb] members",
        ));
    }
    let reading = choice.members.iter().map(|addr| async {
        let mongod = mongo::connect(addr, &env.tools.access, &app_name, env.tools.timeout).await?;
        let facts = mongod.facts().await?;
        let cluster = cluster_facts(
            &mongod,
            &facts,
            &env.tools.access,
            &app_name,
            env.tools.timeout,
        )
        .await;
        Ok((mongod, facts, cluster))
    });
    let limits = MemberLimits {
        max_lag: mongodb.max_lag.0,
        min_oplog_window: mongodb.min_oplog_window.0,
        allow_visible_secondary: mongodb.allow_visible_secondary,
    };
    let mut members = Vec::new();
    for read in join_all(reading).await {
        match read {
            Ok((mongod, facts, cluster)) => {
                findings.extend(judge(&facts, &limits, Timestamp::now()));
                if facts.options.role != Role::ReplicaSet {
                    findings.extend(judge_cluster(&facts, &cluster));
                }
                let cluster_id = cluster
                    .ok()
                    .flatten()
                    .and_then(|cluster| cluster.cluster_id);
                members.push(Member {
                    mongod,
                    facts,
                    cluster_id,
                });
            }
            Err(error) => findings.push(judge_unreadable(&error)),
        }
    }
    findings.extend(judge_together(
        &members
            .iter()
            .map(|member| &member.facts)
            .collect::<Vec<_>>(),
    ));
    members
}

/// The one deployment that all members belong to.
fn identify(members: &[Member], findings: &mut Vec<Finding>) -> Option<Deployment> {
    let mut found: Vec<Deployment> = Vec::new();
    for member in members {
        let sharded = member.facts.options.role != Role::ReplicaSet;
        let id = match sharded {
            true => member.cluster_id.clone(),
            false => member
                .facts
                .replica_set
                .as_ref()
                .and_then(|set| set.id.clone()),
        };
        match id {
            Some(id) => found.push(Deployment { id, sharded }),
            None if member.facts.replica_set.is_some() => findings.push(Finding::refused(
                member.mongod.addr().to_string(),
                "deployment",
                "does not tell which deployment it belongs to (settings.replicaSetId, or the cluster id)",
                "give freezeframe's user the privileges of mongodb-role.js",
            )),
            None => {}
        }
    }
    found.dedup();
    if found.len() > 1 {
        findings.push(Finding::refused(
            "host",
            "deployment",
            "the members belong to different deployments, and one backup holds one",
            "name the members of one in [mongodb] members, and back the others up with a configuration of their own",
        ));
        return None;
    }
    found.pop()
}

async fn look_at_volumes(
    env: &Environment,
    run: RunId,
    members: Vec<Member>,
    deployment: Option<Deployment>,
    mut findings: Vec<Finding>,
) -> Examination {
    let host = HostView::real();
    let hold = env.config.window.provider == ProviderChoice::Hold;
    let mut planned_members = Vec::new();
    for Member { mongod, facts, .. } in members {
        let Some(shard) = facts.hello.set.clone() else {
            continue;
        };
        let subject = format!("{shard} at {}", mongod.addr());
        let layout = match locate_data(&facts, &host) {
            Ok(layout) => layout,
            Err(finding) => {
                findings.push(Finding { subject, ..finding });
                continue;
            }
        };
        let member = PlannedMember {
            shard,
            mongod,
            facts,
            layout,
            data_size: 0,
        };
        match data_size(&member, env.config.archive.diagnostic_data) {
            Ok(data_size) => planned_members.push(PlannedMember {
                data_size,
                ..member
            }),
            Err(error) => {
                let todo = error.hint().unwrap_or_else(|| "see the message".into());
                findings.push(Finding::refused(subject, "data", error.to_string(), todo));
            }
        }
    }
    let data_bytes = planned_members.iter().map(|member| member.data_size).sum();
    let expected = expected_duration(data_bytes, rate_to_expect(env).await);
    let own = own_paths(env, &host, &mut findings);
    let layouts: Vec<DataLayout> = planned_members
        .iter()
        .map(|member| member.layout.clone())
        .collect();
    let (picture, snapshot_bytes) = if hold {
        look_at_hold(env, expected, &mut findings);
        (Some(PicturePlan::Hold), 0)
    } else {
        let (planned, lines) = look_at_lvm(env, run, layouts.clone(), expected, own).await;
        findings.extend(lines);
        let bytes = planned
            .iter()
            .flatten()
            .map(|one| one.snapshot.cow_bytes)
            .sum();
        (planned.map(PicturePlan::Lvm), bytes)
    };
    let plan = match (picture, deployment) {
        (Some(picture), Some(deployment)) if !planned_members.is_empty() => Some(Plan {
            deployment,
            members: planned_members,
            picture,
            expected,
        }),
        _ => None,
    };
    Examination {
        findings,
        data_bytes,
        expected_seconds: expected.as_secs(),
        snapshot_bytes,
        layouts,
        plan,
    }
}

fn locate_data(facts: &MemberFacts, host: &HostView) -> Result<DataLayout, Finding> {
    let refuse = |detail: String, todo: Option<String>| {
        Finding::refused(
            "",
            "data",
            detail,
            todo.unwrap_or_else(|| "see the message".into()),
        )
    };
    let db_path =
        mongo::process::data_directory(facts.pid, &facts.options.db_path).map_err(|error| {
            refuse(
                error.to_string(),
                Some("run freezeframe as root on the host of this member".into()),
            )
        })?;
    resolve(&db_path, host).map_err(|error| refuse(error.to_string(), error.hint()))
}

/// Bytes that will be read. The directory is live: a file that mongod drops under the walk means another walk.
fn data_size(member: &PlannedMember, diagnostics: bool) -> Result<u64, archive::ArchiveError> {
    let Some(source) = member.source(&View::Live, diagnostics) else {
        return Ok(0);
    };
    let mut walks = 0;
    loop {
        walks += 1;
        match archive::estimate(&source) {
            Ok(estimate) => return Ok(estimate.data_size),
            Err(archive::ArchiveError::Inspect { source, .. })
                if walks < WALKS && source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes a second that the last backup in the store was archived at, else a cautious guess.
async fn rate_to_expect(env: &Environment) -> u64 {
    let guess = RATE_PER_THREAD.saturating_mul(env.config.archive.thread_count().get() as u64);
    let last = async {
        let id = catalog::latest(env.store.as_ref()).await.ok()?;
        catalog::load(env.store.as_ref(), id).await.ok()
    };
    let Some(manifest) = last.await else {
        return guess;
    };
    let archives = manifest.members.iter().map(|member| &member.archive);
    let (bytes, micros) = archives.fold((0u128, 0u128), |(bytes, micros), archive| {
        (
            bytes + u128::from(archive.data_size),
            micros + u128::from(archive.pack_us),
        )
    });
    match bytes.saturating_mul(1_000_000).checked_div(micros) {
        Some(rate) if rate > 0 => u64::try_from(rate).unwrap_or(guess),
        _ => guess,
    }
}

fn own_paths(env: &Environment, host: &HostView, findings: &mut Vec<Finding>) -> Vec<OwnPath> {
    let mut paths: Vec<(Place, PathBuf)> = vec![
        (Place::State, env.config.host.state_dir.clone()),
        (Place::Runtime, env.config.host.runtime_dir.clone()),
        (Place::Program, env.tools.program.clone()),
        (Place::Root, "/".into()),
    ];
    paths.extend(
        env.store
            .local_path()
            .map(|path| (Place::Store, path.to_owned())),
    );
    if Path::new("/var/log").exists() {
        paths.push((Place::Log, "/var/log".into()));
    }
    let mut own = Vec::new();
    for (place, path) in paths {
        match OwnPath::locate(place, path, host) {
            Ok(located) => own.push(located),
            Err(error) => findings.push(Finding::warning(
                place.to_string(),
                "own_paths",
                error.to_string(),
                "see that it does not lie on a volume that is snapshotted",
            )),
        }
    }
    own
}

fn look_at_hold(env: &Environment, expected: Duration, findings: &mut Vec<Finding>) {
    let limit = env.config.max_window();
    let detail = format!(
        "the database is held while the archive is made, about {}, at most {}",
        humantime::format_duration(expected),
        humantime::format_duration(limit)
    );
    findings.push(Finding::warning(
        "hold",
        "hold",
        detail,
        "move the data to LVM volumes for a window of a second",
    ));
    if expected > limit {
        findings.push(Finding::warning(
            "hold",
            "max_hold",
            "the archive is expected to take longer than max_hold",
            "raise [window] max_hold, as far inside the oplog window as it goes",
        ));
    }
}

async fn look_at_lvm(
    env: &Environment,
    run: RunId,
    layouts: Vec<DataLayout>,
    expected: Duration,
    own: Vec<OwnPath>,
) -> (Option<Vec<Planned>>, Vec<Finding>) {
    let (exec, lvm) = (env.tools.exec.clone(), &env.config.lvm);
    let (setting, floor) = (lvm.snapshot_size, lvm.snapshot_floor.0);
    let looking = move || {
        let facts = match Lvm::new(exec).survey() {
            Ok(facts) => facts,
            Err(error) => {
                let todo = error.hint().unwrap_or_else(|| {
                    "install lvm2 and run as root, or set provider = \"hold\" in [window]".into()
                });
                return (
                    None,
                    vec![Finding::refused("lvm", "lvm", error.to_string(), todo)],
                );
            }
        };
        let layouts: Vec<&DataLayout> = layouts.iter().collect();
        let (rates, slow) = write_rates(&layouts);
        let sizing = Sizing {
            rates,
            expected,
            setting,
            floor,
        };
        let planned = plan(&facts, &layouts, run, &sizing);
        let mut findings = storage::judge(&layouts, &facts, planned.as_deref(), &own);
        findings.extend(slow);
        (planned.ok(), findings)
    };
    match tokio::task::spawn_blocking(looking).await {
        Ok(looked) => looked,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// What is written to each origin now. Unknown is a warning: the floor still holds.
fn write_rates(layouts: &[&DataLayout]) -> (BTreeMap<DevNumber, u64>, Option<Finding>) {
    let mut devices: Vec<_> = layouts
        .iter()
        .flat_map(|layout| &layout.filesystems)
        .map(|filesystem| filesystem.device.number)
        .collect();
    devices.sort_unstable();
    devices.dedup();
    match rate::measure(Path::new("/sys"), &devices, RATE_SAMPLE) {
        Ok(rates) => {
            let total = ByteSize::b(rates.values().sum());
            let seen = (!rates.is_empty())
                .then(|| Finding::ok("lvm", "write_rate", format!("{total}/s are written now")));
            (rates, seen)
        }
        Err(error) => {
            let todo = "set [lvm] snapshot_size by hand if the members write much";
            (
                BTreeMap::new(),
                Some(Finding::warning(
                    "lvm",
                    "write_rate",
                    error.to_string(),
                    todo,
                )),
            )
        }
    }
}
