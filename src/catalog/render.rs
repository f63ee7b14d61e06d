//! The catalog as a person reads it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::summary::{SetState, SetSummary, Verdict};
use crate::human;
use crate::manifest::{Manifest, WindowRecord};

/// A table of sets, oldest first, with ages as of `now`.
pub fn table(sets: &[SetSummary], now: Timestamp) -> String {
    if sets.is_empty() {
        return "no backups\n".into();
    }
    let header = ["BACKUP", "AGE", "SIZE", "LOCK", "STATE", "MEMBERS"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(header)
        .chain(sets.iter().map(|set| row(set, now)))
        .collect();
    let mut text = columns(&rows);
    for set in sets {
        if let Some(owner) = &set.at_work {
            text.push_str(&format!("{}: being made by {}\n", set.id, owner.at_work()));
        }
        for aside in asides(set, now) {
            text.push_str(&format!("{}: {aside}\n", set.id));
        }
        if let Some(reason) = &set.reason {
            let id = set.id.to_string();
            // Errors of the catalog name the set themselves.
            match reason.contains(&id) {
                true => text.push_str(&format!("{reason}\n")),
                false => text.push_str(&format!("{id}: {reason}\n")),
            }
        }
    }
    text
}

/// Who keeps the set from being pruned.
fn asides(set: &SetSummary, now: Timestamp) -> impl Iterator<Item = String> {
    let fresh = set.readers.iter().filter(move |reader| reader.until > now);
    let reading = fresh.map(|reader| {
        format!(
            "being read by run {}, or was (until {:.0} at the latest)",
            reader.run, reader.until
        )
    });
    set.hold.iter().map(ToString::to_string).chain(reading)
}

/// How large a backup is: its objects, or its EBS snapshots, whose bytes nobody tells.
pub fn size(bytes: u64, snapshots: u64) -> String {
    match snapshots {
        0 => human::size(bytes),
        1 => "1 snapshot".to_owned(),
        count => format!("{count} snapshots"),
    }
}

fn row(set: &SetSummary, now: Timestamp) -> [String; 6] {
    let members: Vec<&str> = set
        .members
        .iter()
        .map(|member| member.shard.as_str())
        .collect();
    [
        set.id.to_string(),
        age(now.duration_since(set.started)),
        size(set.size, set.snapshots),
        set.held_us.map_or_else(|| "-".into(), lock_length),
        state(set).to_owned(),
        match members.is_empty() {
            true => "-".into(),
            false => members.join(", "),
        },
    ]
}

fn state(set: &SetSummary) -> &'static str {
    match (set.state, set.verification.verdict) {
        (SetState::Unfinished, _) if set.at_work.is_some() => "running",
        (SetState::Unfinished, _) => "unfinished",
        (SetState::Future, _) => "newer format",
        (SetState::Unreadable, _) => "UNREADABLE",
        (SetState::Damaged, _) | (SetState::Complete, Verdict::Damaged) => "DAMAGED",
        (SetState::Complete, Verdict::Unverified) => "unverified",
        (SetState::Complete, Verdict::Verified) => "verified",
        (SetState::Complete, Verdict::Proven) => "proven",
    }
}

/// Everything an operator asks about one set.
pub fn set(set: &SetSummary, manifest: &Manifest) -> String {
    let mut lines = vec![
        ("backup", manifest.id.to_string()),
        ("state", state(set).to_owned()),
        ("started", manifest.started.to_string()),
        ("finished", manifest.finished.to_string()),
        ("host", manifest.host.clone()),
        ("run", manifest.run.to_string()),
        (
            "tool",
            format!("freezeframe {}, format {}", manifest.tool, manifest.format),
        ),
        (
            "deployment",
            format!(
                "{} ({})",
                manifest.deployment.id,
                match manifest.deployment.sharded {
                    true => "sharded cluster",
                    false => "replica set",
                }
            ),
        ),
        (
            "lock",
            format!(
                "{}, snapshots by {}",
                lock_length(manifest.window.held_us),
                manifest.window.provider
            ),
        ),
        ("size", human::size(set.size)),
    ];
    lines.extend(set.hold.iter().map(|hold| ("hold", hold.to_string())));
    if let Some(reason) = &set.reason {
        lines.push(("reason", reason.clone()));
    }
    if let Some(last) = set.verification.last {
        lines.push(("verified", last.to_string()));
    }
    if let Some(proven) = set.verification.proven {
        lines.push(("proven", proven.to_string()));
    }
    if set.verification.unreadable > 0 {
        lines.push((
            "records",
            format!(
                "{} verification records cannot be read",
                set.verification.unreadable
            ),
        ));
    }
    let mut text: String = lines
        .into_iter()
        .map(|(name, value)| format!("{name:<12}{value}\n"))
        .collect();
    for member in &manifest.members {
        let archive = &member.archive;
        text.push_str(&format!(
            "\n{} from {}\n  mongod      {}, feature compatibility {}\n  optime      {}\n  lock        {}\n  archive     {} ({}), {} of {} in {} files\n",
            member.shard,
            member.address,
            member.server_version,
            member.feature_compatibility,
            member.promise(),
            lock_length(member.locked_us),
            archive.object,
            archive.profile,
            human::size(archive.size),
            human::size(archive.data_size),
            archive.files,
        ));
    }
    text.push_str(&window(&manifest.window));
    text
}

/// What every set is told of first.
pub(super) fn heading(set: &SetSummary, format: u32, tool: &str) -> String {
    let mut lines = vec![
        ("backup", set.id.to_string()),
        ("state", state(set).to_owned()),
        ("started", set.started.to_string()),
        ("tool", format!("freezeframe {tool}, format {format}")),
        ("lock", set.held_us.map_or_else(|| "-".into(), lock_length)),
    ];
    lines.extend(
        set.deployment
            .iter()
            .map(|id| ("deployment", id.to_string())),
    );
    lines.extend(set.hold.iter().map(|hold| ("hold", hold.to_string())));
    lines.extend(set.reason.iter().map(|reason| ("reason", reason.clone())));
    lines
        .into_iter()
        .map(|(name, value)| format!("{name:<12}{value}\n"))
        .collect()
}

/// The steps of the window.
pub(super) fn window(window: &WindowRecord) -> String {
    let rows: Vec<[String; 4]> = window
        .steps
        .iter()
        .map(|step| {
            [
                format!("  {:+.3} s", step.start_us as f64 / 1e6),
                length(step.length_us),
                step.step.clone(),
                step.subject.clone(),
            ]
        })
        .collect();
    format!("\nwindow\n{}", columns(&rows))
}

/// The largest unit that fits, so that a column of ages reads at a glance.
pub fn age(age: SignedDuration) -> String {
    let seconds = age.as_secs();
    match seconds {
        ..0 => "in the future".into(),
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The length of a lock; no lock is none at all.
fn lock_length(us: u64) -> String {
    match us {
        0 => "none".into(),
        us => length(us),
    }
}

fn length(us: u64) -> String {
    human::duration(Duration::from_micros(us))
}

/// Left-aligned columns, two blanks between them, nothing after the last.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0usize; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells: String = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
