//! The figures in Prometheus' text format, version 0.0.4. Names and meaning stay; `doc/operations.md` lists them.
//!
//! Moments are told, not how long ago they were: a text file is read long after it was written. A moment that never was is 0.
//!
//! By hand, because prometheus-client writes OpenMetrics from a registry of counters that live on, and here everything is made anew of one [`Standing`]. What is
//! written is held against promtool in `integration/cli/watch.rs`.

use std::fmt::Write;

use jiff::Timestamp;

use super::series::Series;
use super::{CopyStanding, Standing};
use crate::config::WatchConfig;

/// What a reader of this format is told that it is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels<'a> = &'a [(&'a str, &'a str)];

/// Families of gauges, one after the other.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A family, of which `samples` are told; nothing at all where there are none.
    fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP freezeframe_{name} {}", help_text(help));
        let _ = writeln!(self.0, "# TYPE freezeframe_{name} gauge");
        for (labels, value) in samples {
            let _ = write!(self.0, "freezeframe_{name}");
            if !labels.is_empty() {
                let labels = labels
                    .iter()
                    .map(|(label, value)| format!("{label}=\"{}\"", label_text(value)));
                let labels: Vec<_> = labels.collect();
                let _ = write!(self.0, "{{{}}}", labels.join(","));
            }
            let _ = writeln!(self.0, " {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(&[] as Labels<'_>, value)]);
    }
}

fn help_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn label_text(text: &str) -> String {
    help_text(text).replace('"', "\\\"")
}

fn moment(then: Timestamp) -> f64 {
    then.as_second() as f64
}

fn never_or(then: Option<Timestamp>) -> f64 {
    then.map_or(0.0, moment)
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// All figures.
pub fn text(standing: &Standing, limits: &WatchConfig) -> String {
    let mut page = Page::default();
    page.gauges(
        "info",
        "Which freezeframe tells this; always 1.",
        [(&[("version", env!("CARGO_PKG_VERSION"))] as Labels<'_>, 1.0)],
    );
    page.gauge(
        "told_timestamp_seconds",
        "When these figures were put together.",
        moment(standing.at),
    );
    page.gauge(
        "store_up",
        "Whether the store told what it holds.",
        truth(standing.store.reached),
    );
    if let Some(asked) = standing.store.asked {
        page.gauge(
            "store_asked_timestamp_seconds",
            "When the store told what is said of backups here.",
            moment(asked),
        );
    }
    if let Some(free) = standing.store.free_bytes {
        page.gauge(
            "store_free_bytes",
            "What the store, a folder, had room for then.",
            free as f64,
        );
    }
    if let Some(series) = &standing.series {
        backups(&mut page, series);
        page.gauge(
            "strange_backups",
            "Backups that cannot be read, and of which nobody can tell whose they are.",
            standing.strange.len() as f64,
        );
    }
    copies(&mut page, &standing.copies);
    if let Some(limit) = limits.max_verify_age {
        page.gauge(
            "verify_max_age_seconds",
            "How long ago the last verification may be, by the configuration.",
            limit.0.as_secs_f64(),
        );
    }
    host(&mut page, standing);
    page.0
}

/// Of each series; of a host that has none, that it has no backup.
fn backups(page: &mut Page, all: &[Series]) {
    let named: Vec<([String; 2], &Series)> = all
        .iter()
        .map(|one| ([one.deployment.to_string(), one.shards()], one))
        .collect();
    let labelled: Vec<([(&str, &str); 2], &Series)> = named
        .iter()
        .map(|([deployment, shards], one)| {
            (
                [
                    ("deployment", deployment.as_str()),
                    ("replica_sets", shards.as_str()),
                ],
                *one,
            )
        })
        .collect();
    if all.is_empty() {
        page.gauge("backup_timestamp_seconds", OF_NEWEST, 0.0);
    }
    let mut each = |name: &str, help: &str, figure: &dyn Fn(&Series) -> Option<f64>| {
        let samples = labelled
            .iter()
            .filter_map(|(labels, one)| Some((labels as Labels<'_>, figure(one)?)));
        page.gauges(name, help, samples);
    };
    each("backup_timestamp_seconds", OF_NEWEST, &|one| {
        Some(never_or(one.newest.as_ref().map(|new| new.started)))
    });
    each(
        "backup_duration_seconds",
        "How long the newest good backup took to make.",
        &|one| Some(seconds(one.newest.as_ref()?.took_us)),
    );
    each(
        "backup_lock_seconds",
        "How long the database was held for the newest good backup; 0 where it was not locked.",
        &|one| Some(seconds(one.newest.as_ref()?.held_us)),
    );
    each(
        "backup_size_bytes",
        "Size of the newest good backup in the store.",
        &|one| Some(one.newest.as_ref()?.size as f64),
    );
    each(
        "backup_data_bytes",
        "Size of the files that the newest good backup is of.",
        &|one| Some(one.newest.as_ref()?.data_size as f64),
    );
    each(
        "backup_size_change_ratio",
        "By how much the data are more than those of the good backup before, as a share of those.",
        &|one| one.size_change,
    );
    each(
        "verified_timestamp_seconds",
        "When a good backup was last verified and nothing found; 0: never.",
        &|one| Some(never_or(one.verified)),
    );
    each(
        "proven_timestamp_seconds",
        "When a good backup was last proven by restoring it; 0: never.",
        &|one| Some(never_or(one.proven)),
    );
    each(
        "failed_backups",
        "Backups that were begun after the newest good one, and never finished.",
        &|one| Some(one.failed.len() as f64),
    );
    each(
        "ahead_backups",
        "Good backups of moments that are yet to come, because a clock was ahead when they were made.",
        &|one| Some(one.ahead.len() as f64),
    );
    let counts: Vec<([(&str, &str); 3], f64)> = labelled
        .iter()
        .flat_map(|([deployment, shards], one)| {
            let counts = one.counts;
            [
                ("good", counts.good),
                ("damaged", counts.damaged),
                ("unfinished", counts.unfinished),
                ("future", counts.future),
                ("unreadable", counts.unreadable),
            ]
            .map(|(state, count)| ([*deployment, *shards, ("state", state)], count as f64))
        })
        .collect();
    page.gauges(
        "backups",
        "How many backups the store holds, by state.",
        counts
            .iter()
            .map(|(labels, count)| (labels as Labels<'_>, *count)),
    );
}

/// Of each store that backups are copied to.
fn copies(page: &mut Page, all: &[CopyStanding]) {
    let mut each = |name: &str, help: &str, figure: &dyn Fn(&CopyStanding) -> Option<f64>| {
        let told: Vec<([(&str, &str); 1], f64)> = all
            .iter()
            .filter_map(|copy| Some(([("store", copy.store.url.as_str())], figure(copy)?)))
            .collect();
        let samples = told.iter();
        page.gauges(
            name,
            help,
            samples.map(|(labels, value)| (labels as Labels<'_>, *value)),
        );
    };
    each(
        "copy_up",
        "Whether the store that backups are copied to told what it holds.",
        &|copy| Some(truth(copy.store.reached)),
    );
    each(
        "copy_free_bytes",
        "What that store, a folder, had room for then.",
        &|copy| Some(copy.store.free_bytes? as f64),
    );
    each(
        "copy_lacking_backups",
        "How many backups it is to have and has not yet.",
        &|copy| Some(copy.lacking.as_ref()?.len() as f64),
    );
    each(
        "copy_oldest_lacking_timestamp_seconds",
        "The moment that the oldest of these is of; not told where nothing lacks.",
        &|copy| Some(moment(copy.lacking.as_ref()?.last()?.started())),
    );
    each(
        "copy_damaged_backups",
        "How many of the copies are damaged.",
        &|copy| Some(copy.damaged.as_ref()?.len() as f64),
    );
}

const OF_NEWEST: &str = "The moment that the newest good backup is of; 0: there is none.";

fn host(page: &mut Page, standing: &Standing) {
    if let Some(owner) = &standing.running {
        page.gauge(
            "backup_running_since_timestamp_seconds",
            "When the backup began that is being made; not told where none is.",
            moment(owner.started),
        );
    }
    if let Some(run) = &standing.last_run {
        page.gauge(
            "last_run_timestamp_seconds",
            "When the last backup of this host ended, well or not.",
            moment(run.ended),
        );
        page.gauge(
            "last_run_success",
            "Whether it ended well.",
            truth(run.succeeded()),
        );
        page.gauge(
            "unprotected",
            "Whether the last set of EBS snapshots is not locked, copied or shared as it was to be.",
            truth(run.unprotected.is_some()),
        );
        page.gauge(
            "hook_failed",
            "Whether a backup was made and the hook `after` failed.",
            truth(run.hook_failed.is_some()),
        );
    }
    page.gauge(
        "dead_runs",
        "Runs that died and left something, or of which nobody can tell.",
        (standing.leftovers.len() + standing.unreadable.len()) as f64,
    );
    let held = standing.leftovers.iter().map(|left| left.resources.len());
    page.gauge(
        "leftovers",
        "What they left: snapshots, mounts, unfinished objects and more.",
        held.sum::<usize>() as f64,
    );
    let locks = standing.leftovers.iter().map(|left| left.locks);
    page.gauge(
        "leftover_locks",
        "Locks on members among that.",
        locks.sum::<u64>() as f64,
    );
}
