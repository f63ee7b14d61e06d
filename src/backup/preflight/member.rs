//! Whether a member may be locked and copied: pure judgement of what it said about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Finding;
use crate::error::Explain;
use crate::human;
use crate::ids::{MemberAddr, ShardName};
use crate::mongo::MongoError;
use crate::mongo::facts::{MemberFacts, MemberState, ReplicaSet, Truncated};

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberLimits {
    /// How far the member may be behind its primary.
    pub max_lag: Duration,
    /// How far its oplog must reach back.
    pub min_oplog_window: Duration,
    /// A secondary that clients can see will do.
    pub allow_visible_secondary: bool,
}

/// More skew than this between the server's clock and ours is worth a warning.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Judges one member. `holder` is the living run of ours that has it locked, `now` is our own clock.
pub fn judge(
    facts: &MemberFacts,
    limits: &MemberLimits,
    holder: Option<&str>,
    now: Timestamp,
) -> Vec<Finding> {
    let judge = Judge {
        facts,
        holder,
        subject: subject(facts),
        findings: Vec::new(),
    };
    judge.all(limits, now)
}

/// The finding for a member whose facts could not be read.
pub fn judge_unreadable(error: &MongoError) -> Finding {
    let check = match error {
        MongoError::Arbiter { .. } => "state",
        _ => "connection",
    };
    let todo = error
        .hint()
        .unwrap_or_else(|| "see the server's log".into());
    let refused = Finding::refused(error.addr().to_string(), check, error.to_string(), todo);
    match error {
        MongoError::Unreachable { .. } => refused.passing(),
        _ => refused,
    }
}

/// Judges the members that are to be locked together: one of each replica set.
///
/// A set's archive is named by the set, and two of its members locked at once would take two
/// voters away.
pub fn judge_together(members: &[&MemberFacts]) -> Vec<Finding> {
    let mut by_set: BTreeMap<&ShardName, Vec<&MemberAddr>> = BTreeMap::new();
    for facts in members {
        if let Some(set) = &facts.hello.set {
            by_set.entry(set).or_default().push(&facts.addr);
        }
    }
    by_set
        .into_iter()
        .filter(|(_, addrs)| addrs.len() > 1)
        .map(|(set, addrs)| {
            let names: Vec<String> = addrs.iter().map(ToString::to_string).collect();
            Finding::refused(
                set.to_string(),
                "one_member_a_set",
                format!("{} are all members of {set}", names.join(" and ")),
                format!("name one of them in [mongodb] members, and put the others of {set} into exclude"),
            )
        })
        .collect()
}

/// "rs0 at 127.0.0.1:27018".
pub(super) fn subject(facts: &MemberFacts) -> String {
    match &facts.hello.set {
        Some(set) => format!("{set} at {}", facts.addr),
        None => facts.addr.to_string(),
    }
}

struct Judge<'a> {
    facts: &'a MemberFacts,
    holder: Option<&'a str>,
    subject: String,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn all(mut self, limits: &MemberLimits, now: Timestamp) -> Vec<Finding> {
        self.engine();
        self.lock();
        self.clock(now);
        match &self.facts.replica_set {
            Some(set) => {
                self.state(set);
                self.visibility(limits);
                self.initial_sync(set);
                self.delay(set);
                self.lag(set, limits.max_lag);
                self.majority(set);
                self.oplog(set, limits.min_oplog_window);
            }
            None => self.refused(
                "state",
                "is a standalone server or a replica set not yet initiated",
                "only members of replica sets are backed up: start it with --replSet and initiate it",
            ),
        }
        self.findings
    }

    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.findings
            .push(Finding::ok(self.subject.clone(), check, detail));
    }

    /// `what` continues a sentence that begins with the member.
    fn refused(&mut self, check: &'static str, what: impl AsRef<str>, todo: impl Into<String>) {
        let detail = format!("{} {}", self.subject, what.as_ref());
        self.findings
            .push(Finding::refused(self.subject.clone(), check, detail, todo));
    }

    fn not_yet(&mut self, check: &'static str, what: impl AsRef<str>, todo: impl Into<String>) {
        let detail = format!("{} {}", self.subject, what.as_ref());
        let refused = Finding::refused(self.subject.clone(), check, detail, todo);
        self.findings.push(refused.passing());
    }

    fn warning(&mut self, check: &'static str, what: impl AsRef<str>, todo: impl Into<String>) {
        let detail = format!("{} {}", self.subject, what.as_ref());
        self.findings
            .push(Finding::warning(self.subject.clone(), check, detail, todo));
    }

    /// What to name instead of this member.
    fn name_another(&self) -> String {
        match &self.facts.hello.set {
            Some(set) => format!("name a hidden secondary of {set} in [mongodb] members"),
            None => "name a hidden secondary in [mongodb] members".into(),
        }
    }

    fn engine(&mut self) {
        let engine = &self.facts.storage_engine;
        let arbiter = self.facts.hello.arbiter;
        if engine.name == "wiredTiger" && engine.persistent {
            self.ok("storage_engine", "WiredTiger, persistent");
        } else if !arbiter {
            let what = format!(
                "stores with {}, not with persistent WiredTiger",
                engine.name
            );
            self.refused("storage_engine", what, self.name_another());
        }
        if self.facts.options.journal_enabled == Some(false) {
            self.refused(
                "journal",
                "runs without a journal",
                "remove storage.journal.enabled: false (--nojournal) and restart it",
            );
        } else {
            self.ok("journal", "on");
        }
        if self.facts.options.encrypted {
            self.warning(
                "encryption_at_rest",
                "is encrypted at rest: the archive needs its key to be restored",
                "keep the key with the backups' other secrets; restore with --eseDatabaseKeyRollover where AES-GCM is used",
            );
        }
    }

    fn lock(&mut self) {
        if self.facts.missing_actions.is_empty() {
            self.ok("privileges", "may lock and unlock");
        } else {
            let what = format!(
                "does not allow our user {} on the cluster",
                self.facts.missing_actions.join(", ")
            );
            self.refused(
                "privileges",
                what,
                "grant it, or run mongodb-role.js, which makes the minimum role",
            );
        }
        if let (true, Some(holder)) = (self.facts.fsync_locked, self.holder) {
            self.refused(
                "fsync_lock",
                format!("is held by {holder}"),
                "wait until it has ended",
            );
        } else if self.facts.fsync_locked {
            self.refused(
                "fsync_lock",
                "is already fsyncLocked, or a lock waits to be taken",
                "see who holds it; `freezeframe unlock` tells whether it is left by a dead run of ours or somebody else's",
            );
        } else {
            self.ok("fsync_lock", "not locked");
        }
        if self.facts.storage_engine.backup_cursor_open {
            self.refused(
                "backup_cursor",
                "has a backup cursor open: another backup is running",
                "wait until the other backup has ended, or stop it",
            );
        } else {
            self.ok("backup_cursor", "none open");
        }
    }

    fn clock(&mut self, now: Timestamp) {
        let skew = now.duration_since(self.facts.read_at).unsigned_abs();
        if skew > MAX_CLOCK_SKEW {
            let skew = human::duration(Duration::from_secs(skew.as_secs()));
            let what = format!("has a clock {skew} from ours");
            self.warning("clock", what, "keep the clocks of both hosts by NTP");
        }
    }

    fn state(&mut self, set: &ReplicaSet) {
        let another = self.name_another();
        let arbiter = self.facts.hello.arbiter || set.my_state == MemberState::Arbiter;
        let primary = self.facts.hello.is_writable_primary || set.my_state == MemberState::Primary;
        if arbiter {
            self.refused("state", "is an ARBITER and holds no data", another);
        } else if primary {
            self.refused("state", "is PRIMARY", another);
        } else if set.my_state == MemberState::Secondary && self.facts.hello.secondary {
            self.ok("state", "SECONDARY");
        } else {
            let what = format!("is {}", set.my_state);
            self.not_yet(
                "state",
                what,
                "wait until it is SECONDARY, and see its log for why it is not",
            );
        }
    }

    fn visibility(&mut self, limits: &MemberLimits) {
        // Said in "state" already, and nothing an option changes.
        if self.facts.hello.arbiter || self.facts.hello.is_writable_primary {
            return;
        }
        if self.facts.hello.hidden {
            self.ok("hidden", "hidden");
        } else if limits.allow_visible_secondary {
            self.warning(
                "hidden",
                "is visible: clients that read from it will wait while it is locked",
                "hide it (hidden: true, priority: 0) where reads must not wait",
            );
        } else {
            let todo = format!(
                "hide it (hidden: true, priority: 0), or {}, or set allow_visible_secondary",
                self.name_another()
            );
            self.refused("hidden", "is not hidden", todo);
        }
    }

    fn initial_sync(&mut self, set: &ReplicaSet) {
        if set.initial_sync {
            self.not_yet(
                "initial_sync",
                "is in initial sync: its data is not complete",
                "wait until the initial sync has ended",
            );
        } else {
            self.ok("initial_sync", "not running");
        }
    }

    fn delay(&mut self, set: &ReplicaSet) {
        match set.this().map(|member| member.delay_secs) {
            Some(0) => self.ok("delay", "none"),
            Some(delay) => {
                let delay = human::duration(Duration::from_secs(delay));
                let what = format!("is a delayed member, {delay} behind on purpose");
                self.refused("delay", what, self.name_another());
            }
            None => self.refused(
                "delay",
                "does not find itself in its own set's configuration",
                "see rs.conf() and rs.status() on it",
            ),
        }
    }

    fn lag(&mut self, set: &ReplicaSet, limit: Duration) {
        if self.facts.hello.is_writable_primary || self.facts.hello.arbiter {
            return;
        }
        match lag(set) {
            Some(lag) if lag > limit => {
                let what = format!(
                    "is {} behind its primary, more than {}",
                    human::duration(lag),
                    human::duration(limit)
                );
                self.not_yet("lag", what, "wait until it has caught up, or raise max_lag");
            }
            Some(lag) => self.ok(
                "lag",
                format!("{} behind the primary", human::duration(lag)),
            ),
            None => self.not_yet(
                "lag",
                "sees no primary: how far it is behind cannot be told",
                "see rs.status() for the primary and the network between them",
            ),
        }
    }

    fn majority(&mut self, set: &ReplicaSet) {
        if self.facts.hello.is_writable_primary || self.facts.hello.arbiter {
            return;
        }
        let votes = set.this().map_or(0, |member| member.votes);
        if votes == 0 {
            self.ok(
                "majority",
                "has no vote: majority writes do not wait for it",
            );
            return;
        }
        let others = acknowledging_others(set);
        let needed = set.write_majority;
        if others >= needed {
            let detail = format!("{others} other voters acknowledge, {needed} are needed");
            self.ok("majority", detail);
        } else {
            let what = format!(
                "votes, and only {others} other healthy data-bearing voters remain while it is locked: majority writes need {needed} and would stall"
            );
            self.refused(
                "majority",
                what,
                "give the hidden member votes: 0, bring the other voters back, or add one",
            );
        }
    }

    fn oplog(&mut self, set: &ReplicaSet, minimum: Duration) {
        let Some(ends) = self.facts.oplog else {
            // A member that serves no reads is refused for its state already.
            if matches!(set.my_state, MemberState::Primary | MemberState::Secondary) {
                self.refused(
                    "oplog_window",
                    "has an empty oplog",
                    "see rs.status() on it",
                );
            }
            return;
        };
        let seconds = ends.last.seconds.saturating_sub(ends.first.seconds);
        let window = Duration::from_secs(seconds.into());
        if window >= minimum {
            return self.ok("oplog_window", human::duration(window).to_string());
        }
        let short = format!(
            "has an oplog of {}, less than {}",
            human::duration(window),
            human::duration(minimum)
        );
        match ends.truncated {
            Truncated::Never => self.warning(
                "oplog_window",
                format!("{short}, because it is young: nothing was removed from it yet"),
                "nothing; that it reaches back far enough can be seen when it is older",
            ),
            // Who restarts it in its first hour is not to be told that it is small.
            Truncated::NotFor(seconds) if Duration::from_secs(seconds) < minimum => self.warning(
                "oplog_window",
                format!("{short}: young or small, which cannot be told before mongod has run for as long"),
                "nothing, where its data is new; else look again then",
            ),
            Truncated::NotFor(_) | Truncated::Perhaps => self.refused(
                "oplog_window",
                short,
                "enlarge its oplog (replSetResizeOplog), or lower min_oplog_window",
            ),
        }
    }
}

/// How far the asked member is behind its primary; none when it sees no primary.
pub fn lag(set: &ReplicaSet) -> Option<Duration> {
    let primary = set
        .members
        .iter()
        .find(|member| member.state == MemberState::Primary && member.healthy)?;
    let behind = primary
        .optime_date?
        .duration_since(set.this()?.optime_date?);
    // Heartbeats show the primary as it was up to two seconds ago: our own may look newer.
    Some(Duration::try_from(behind).unwrap_or_default())
}

/// Healthy voters other than the asked member that hold data and acknowledge writes in time.
fn acknowledging_others(set: &ReplicaSet) -> u32 {
    let count = set
        .members
        .iter()
        .filter(|member| {
            let up = matches!(member.state, MemberState::Primary | MemberState::Secondary);
            let acknowledges = !member.arbiter && member.delay_secs == 0;
            !member.this && member.votes > 0 && member.healthy && up && acknowledges
        })
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests;
