//! The figures held against the thresholds of `[watch]`.

use std::time::Duration;

use serde::Serialize;

use super::last_run::LastRun;
use super::series::{Newest, Series};
use super::{Standing, StoreStanding, ago};
use crate::catalog::render;
use crate::config::WatchConfig;
use crate::error::Exit;
use crate::human;
use crate::ids::BackupId;

/// One thing that was looked at. Its JSON form is part of what `status --json` prints, and stays stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What it is about: a series, this host, the store.
    pub subject: String,
    /// What was looked at.
    pub check: Check,
    /// Whether somebody has to do something.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub todo: Option<String>,
}

/// What is looked at.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::IntoStaticStr, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Check {
    /// How old the newest good backup is.
    Age,
    /// How long it took to make, and the database was held.
    Duration,
    /// How large it is, and how that changed.
    Size,
    /// Whether stored backups are damaged.
    Damage,
    /// When one was last verified.
    Verify,
    /// Whether backups are made that come to nothing.
    Run,
    /// What dead runs left.
    Leftovers,
    /// Whether the store answers.
    Store,
    /// Whether the next backup finds room in it.
    Room,
    /// Whether backups are copied to where they are to be.
    Copy,
}

/// Whether somebody has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nobody.
    Ok,
    /// A threshold is passed.
    Alarm,
}

/// What is wrong and what to do about it, or what is well.
struct Word {
    verdict: Verdict,
    detail: String,
    todo: Option<String>,
}

fn ok(detail: impl Into<String>) -> Word {
    Word {
        verdict: Verdict::Ok,
        detail: detail.into(),
        todo: None,
    }
}

fn alarm(detail: impl Into<String>, todo: impl Into<String>) -> Word {
    Word {
        verdict: Verdict::Alarm,
        detail: detail.into(),
        todo: Some(todo.into()),
    }
}

impl Word {
    fn of(self, subject: &str, check: Check) -> Checked {
        Checked {
            subject: subject.to_owned(),
            check,
            verdict: self.verdict,
            detail: self.detail,
            todo: self.todo,
        }
    }
}

const TRY_TO_COPY: &str = "`freezeframe copy` copies them, or tells why it cannot";
const HOST: &str = "this host";
const WHY_NOT: &str = "`freezeframe check` tells what stands in the way, `journalctl -u freezeframe-backup` what the last runs said";

/// Everything that is watched, as it stands; what is wrong is an [`Verdict::Alarm`].
pub fn judge(standing: &Standing, limits: &WatchConfig) -> Vec<Checked> {
    let mut all = Vec::new();
    for series in standing.series.iter().flatten() {
        let subject = series.name();
        all.push(age(series, standing, limits).of(&subject, Check::Age));
        if let Some(newest) = &series.newest {
            all.push(duration(newest).of(&subject, Check::Duration));
            all.push(size(series, newest, limits).of(&subject, Check::Size));
        }
        all.push(damage(series).of(&subject, Check::Damage));
        all.push(verify(series, standing, limits).of(&subject, Check::Verify));
    }
    if standing.series.as_ref().is_some_and(Vec::is_empty) {
        all.push(none_at_all(standing, limits).of(HOST, Check::Age));
    }
    all.push(run(standing, limits).of(HOST, Check::Run));
    all.push(leftovers(standing).of(HOST, Check::Leftovers));
    let store = &standing.store;
    all.push(reachable(store).of(&store.url, Check::Store));
    all.extend(room(store, standing).map(|word| word.of(&store.url, Check::Room)));
    if !standing.strange.is_empty() {
        let strange = alarm(
            format!(
                "{} cannot be read, and nobody can tell whose it is",
                names(&standing.strange)
            ),
            "`freezeframe list` tells why",
        );
        all.push(strange.of(&store.url, Check::Damage));
    }
    for copy in &standing.copies {
        let url = &copy.store.url;
        all.push(reachable(&copy.store).of(url, Check::Store));
        all.extend(room(&copy.store, standing).map(|word| word.of(url, Check::Room)));
        if let Some(lacking) = &copy.lacking {
            let last = standing.last_run.as_ref();
            let of_this = last.filter(|run| run.backup.is_some_and(|id| lacking.contains(&id)));
            let why_not = of_this.and_then(|run| run.not_copied.get(url));
            all.push(copied(lacking, why_not, standing, limits).of(url, Check::Copy));
        }
        if let Some(damaged) = copy.damaged.as_ref().filter(|all| !all.is_empty()) {
            let damaged = alarm(
                format!("{} damaged: {}", damaged.len(), names(damaged)),
                format!(
                    "`freezeframe list --store {url}` tells why; delete them there, and `freezeframe copy` copies them anew"
                ),
            );
            all.push(damaged.of(url, Check::Damage));
        }
    }
    all
}

/// Whether any threshold is passed.
pub fn is_alarming(all: &[Checked]) -> bool {
    all.iter().any(|one| one.verdict == Verdict::Alarm)
}

/// Whether a backup is being made that has not taken as long yet as its predecessor may be old.
fn is_being_made(standing: &Standing, limits: &WatchConfig) -> bool {
    let running = standing.running.as_ref();
    running.is_some_and(|owner| ago(owner.started, standing.at) <= limits.max_age.0)
}

fn age(series: &Series, standing: &Standing, limits: &WatchConfig) -> Word {
    let Some(newest) = &series.newest else {
        return none_at_all(standing, limits);
    };
    if series.ahead.contains(&newest.id) {
        let ahead = newest.started.duration_since(standing.at).unsigned_abs();
        return alarm(
            format!(
                "{} is {} in the future, so nobody can tell how old the newest backup is",
                newest.id,
                human::duration(ahead)
            ),
            "set the clock of this host (`timedatectl`), or that of the one that made it, and make a backup",
        );
    }
    let age = Duration::from_secs(newest.age_seconds);
    let (old, limit) = (human::duration(age), human::duration(limits.max_age.0));
    let told = format!("{} is {old} old (limit {limit})", newest.id);
    if age > limits.max_age.0 && !is_being_made(standing, limits) {
        let todo = format!("{WHY_NOT}; if nobody is to back it up any more, delete its backups");
        return alarm(format!("{told}, and is the newest good backup"), todo);
    }
    if !series.ahead.is_empty() {
        return alarm(
            format!(
                "{told}; of a moment to come, because a clock was ahead: {}",
                names(&series.ahead)
            ),
            "see to the clocks; as long as that moment has not come it is neither `latest` nor pruned: delete its folder in the store, or wait",
        );
    }
    match age > limits.max_age.0 {
        true => ok(format!("{told}; the next one is being made")),
        false => ok(told),
    }
}

fn none_at_all(standing: &Standing, limits: &WatchConfig) -> Word {
    match is_being_made(standing, limits) {
        true => ok("the first backup is being made"),
        false if standing.last_run.is_none() => alarm(
            "there is no good backup",
            "make the first one: `freezeframe backup`; `freezeframe check` tells what stands in its way",
        ),
        false => alarm("there is no good backup", WHY_NOT),
    }
}

fn duration(newest: &Newest) -> Word {
    let took = human::duration(Duration::from_micros(newest.took_us));
    ok(match newest.held_us {
        0 => format!("took {took}, the database was not locked"),
        us => format!(
            "took {took}, the database was held for {}",
            human::duration(Duration::from_micros(us))
        ),
    })
}

fn size(series: &Series, newest: &Newest, limits: &WatchConfig) -> Word {
    let mut told = format!(
        "{} of {} of data",
        render::size(newest.size, newest.snapshots),
        human::size(newest.data_size)
    );
    let Some(change) = series.size_change else {
        return ok(told);
    };
    let percent = change * 100.0;
    // Rounded, so that what is told is what is compared.
    let percent = percent.round();
    if percent == 0.0 {
        told.push_str(", as much data as before");
    } else {
        let than = if percent < 0.0 { "less" } else { "more" };
        told.push_str(&format!(
            ", {} % {than} data than before (limit {} %)",
            percent.abs(),
            limits.max_size_change
        ));
    }
    match percent.abs() > f64::from(limits.max_size_change) {
        true => alarm(
            told,
            "see whether somebody dropped or loaded data; if not, compare `freezeframe show --files` of this backup and the one before",
        ),
        false => ok(told),
    }
}

fn damage(series: &Series) -> Word {
    let good = series.counts.good;
    match series.damaged.as_slice() {
        [] => ok(match good {
            1 => "1 good backup, none damaged".to_owned(),
            good => format!("{good} good backups, none damaged"),
        }),
        damaged => alarm(
            format!("{} damaged: {}", damaged.len(), names(damaged)),
            "`freezeframe list` tells why; make a backup now, and see to the store's disks",
        ),
    }
}

fn verify(series: &Series, standing: &Standing, limits: &WatchConfig) -> Word {
    let since = |then| human::duration(Duration::from_secs(ago(then, standing.at).as_secs()));
    let proven = series.proven.map_or_else(
        || "never proven by restoring one".to_owned(),
        |then| format!("proven by restoring one {} ago", since(then)),
    );
    let told = match series.verified {
        Some(then) => format!("verified {} ago, {proven}", since(then)),
        None => "never verified".to_owned(),
    };
    let Some(limit) = limits.max_verify_age else {
        return ok(told);
    };
    let late = series
        .verified
        .is_none_or(|then| ago(then, standing.at) > limit.0);
    let told = format!("{told} (limit {})", human::duration(limit.0));
    match late {
        true => alarm(
            told,
            "run `freezeframe verify latest`, or better `freezeframe verify latest --deep`, from time to time",
        ),
        false => ok(told),
    }
}

fn run(standing: &Standing, limits: &WatchConfig) -> Word {
    if let Some(owner) = &standing.running {
        let since = human::duration(Duration::from_secs(
            ago(owner.started, standing.at).as_secs(),
        ));
        if !is_being_made(standing, limits) {
            return alarm(
                format!(
                    "run {} (pid {}) has been making a backup for {since}",
                    owner.run, owner.pid
                ),
                "see what it waits for (`journalctl -u freezeframe-backup`); `systemctl stop freezeframe-backup` ends it and gives back what it holds",
            );
        }
        return ok(format!("a backup is being made, for {since} now"));
    }
    let made_since = |run: &LastRun| {
        let mut all = standing.series.iter().flatten();
        all.any(|one| {
            one.newest
                .as_ref()
                .is_some_and(|new| new.started > run.ended)
        })
    };
    let made_by = |run: &LastRun| {
        let mut all = standing.series.iter().flatten();
        all.any(|one| {
            one.newest
                .as_ref()
                .is_some_and(|new| new.started >= run.began)
        })
    };
    match &standing.last_run {
        Some(run) if run.exit == Exit::StillHeld as i32 && made_by(run) && !made_since(run) => {
            return alarm(
                format!(
                    "a backup was made {} ago, and its run ended with exit code {}: {}",
                    human::duration(Duration::from_secs(ago(run.ended, standing.at).as_secs())),
                    run.exit,
                    run.error.as_deref().unwrap_or("nobody knows why")
                ),
                "run `freezeframe recover`",
            );
        }
        Some(run) if !run.succeeded() && !made_since(run) => {
            return alarm(
                format!(
                    "the last backup failed {} ago with exit code {}: {}",
                    human::duration(Duration::from_secs(ago(run.ended, standing.at).as_secs())),
                    run.exit,
                    run.error.as_deref().unwrap_or("nobody knows why")
                ),
                WHY_NOT,
            );
        }
        _ => {}
    }
    let failed: Vec<BackupId> = standing
        .series
        .iter()
        .flatten()
        .flat_map(|one| one.failed.iter().copied())
        .collect();
    if !failed.is_empty() {
        return alarm(
            format!("begun and never finished: {}", names(&failed)),
            WHY_NOT,
        );
    }
    match &standing.last_run {
        Some(LastRun {
            unprotected: Some(amiss),
            ..
        }) => alarm(
            format!("the last set of snapshots is not as protected as it was to be, {amiss}"),
            "`freezeframe verify` tells what of it is not; the next set is judged by itself",
        ),
        Some(LastRun {
            hook_failed: Some(error),
            ..
        }) => alarm(
            format!("the last backup was made, and {error}"),
            "what that hook was to do is not done; the next backup is judged by itself",
        ),
        Some(run) if run.succeeded() => ok(format!(
            "the last backup ended well {} ago",
            human::duration(Duration::from_secs(ago(run.ended, standing.at).as_secs()))
        )),
        Some(_) => ok("a backup was made since the last one that failed"),
        None => ok("no backup failed that is known of"),
    }
}

fn leftovers(standing: &Standing) -> Word {
    if let Some(reason) = standing.unreadable.first() {
        return alarm(
            format!("nobody can tell how runs ended, or what dead ones left: {reason}"),
            "run this as root; `freezeframe unlock` tells whether a member is locked",
        );
    }
    let what: Vec<String> = standing
        .leftovers
        .iter()
        .map(|left| {
            let held = match left.resources.is_empty() {
                true => "its journal".to_owned(),
                false => left.resources.join(", "),
            };
            format!("run {} ({}) died and left {held}", left.run, left.verb)
        })
        .collect();
    match what.is_empty() {
        true => ok("none"),
        false => alarm(what.join("; "), "run `freezeframe recover`"),
    }
}

/// What lacks counts for nothing as long as a backup may be old: copying takes its time.
fn copied(
    lacking: &[BackupId],
    why_not: Option<&String>,
    standing: &Standing,
    limits: &WatchConfig,
) -> Word {
    let is_late = |id: &&BackupId| ago(id.started(), standing.at) > limits.max_age.0;
    let late: Vec<BackupId> = lacking.iter().filter(is_late).copied().collect();
    match (late.as_slice(), lacking) {
        ([], []) => ok("has every backup that it is to have"),
        ([], lacking) if let Some(reason) = why_not => alarm(
            format!(
                "the last backup could not be copied there: {reason}; lacks {}",
                names(lacking)
            ),
            TRY_TO_COPY,
        ),
        ([], lacking) => ok(format!("on the way there: {}", names(lacking))),
        (late, _) => alarm(
            format!(
                "not there after more than {}: {}",
                human::duration(limits.max_age.0),
                names(late)
            ),
            TRY_TO_COPY,
        ),
    }
}

fn reachable(store: &StoreStanding) -> Word {
    match &store.error {
        None => ok("answers"),
        Some(error) => alarm(
            format!("does not tell what it holds: {error}"),
            store.hint.as_deref().unwrap_or(
                "see whether it runs and can be reached from here; `freezeframe check` tries it",
            ),
        ),
    }
}

/// Measured by the largest of the newest backups.
fn room(store: &StoreStanding, standing: &Standing) -> Option<Word> {
    const MANY: u64 = 100;
    let free = store.free_bytes?;
    let newest = standing.series.iter().flatten();
    let sizes = newest.filter_map(|series| Some(series.newest.as_ref()?.size));
    let free_size = human::size(free);
    let Some(size) = sizes.max().filter(|size| *size > 0) else {
        return Some(ok(format!("{free_size} free")));
    };
    Some(match free / size {
        0 => alarm(
            format!(
                "{free_size} free, and the newest backup is of {}",
                human::size(size)
            ),
            "make room: `freezeframe prune` shows what could go; is freezeframe-prune.timer enabled?",
        ),
        1 => ok(format!("{free_size} free, for one more backup")),
        many @ ..MANY => ok(format!("{free_size} free, for {many} more backups")),
        _ => ok(format!(
            "{free_size} free, for more than {MANY} more backups"
        )),
    })
}

/// The names of sets, not too many of them.
fn names(sets: &[BackupId]) -> String {
    const SHOWN: usize = 3;
    let first: Vec<_> = sets.iter().take(SHOWN).map(ToString::to_string).collect();
    match sets.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
