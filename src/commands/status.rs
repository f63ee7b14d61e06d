//! `status`: how the backups stand, on one screen.

use std::fmt::Write;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Serialize;

use super::check::wrap;
use super::{Context, Failure, print};
use crate::blocking::off_thread;
use crate::config::{Config, StoreUrl, WatchConfig};
use crate::error::Exit;
use crate::watch::Standing;
use crate::watch::judge::{Checked, Verdict, is_alarming, judge};
use crate::watch::look::{CopySeen, HostSeen, Question};
use crate::watch::series::Scope;

/// How long somebody who wants to know waits for the store.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(context: Context) -> Result<Exit, Failure> {
    let standing = stand(&context.config, PATIENCE).await;
    let limits = &context.config.watch;
    let checks = judge(&standing, limits);
    let report = Report {
        ok: !is_alarming(&checks),
        standing: &standing,
        limits,
        checks: &checks,
    };
    print(context.json, &report, || render(&checks))?;
    Ok(match report.ok {
        true => Exit::Done,
        false => Exit::Attention,
    })
}

/// How the backups stand now, told within `patience`.
pub(super) async fn stand(config: &Config, patience: Duration) -> Standing {
    let state_dir = config.host.state_dir.clone();
    let ask = |url: &StoreUrl| Question::new(config, url).ask_within(patience);
    let of_copies = config.copy.iter().map(|copy| async {
        CopySeen {
            store: ask(&copy.url).await,
            rules: copy.rules(),
        }
    });
    let (store, copies) = tokio::join!(ask(&config.store.url), join_all(of_copies));
    let host = off_thread(move || HostSeen::look(&state_dir)).await;
    let scope = Scope::of(config.watch.scope);
    Standing::of(&store, &copies, &host, &scope, Timestamp::now())
}

/// What `status --json` prints.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    #[serde(flatten)]
    standing: &'a Standing,
    limits: &'a WatchConfig,
    checks: &'a [Checked],
}

fn render(checks: &[Checked]) -> String {
    let alarms = checks
        .iter()
        .filter(|one| one.verdict == Verdict::Alarm)
        .count();
    let mut text = match alarms {
        0 => "ALL WELL\n".to_owned(),
        1 => "ATTENTION: 1 thing is not as it should be\n".to_owned(),
        count => format!("ATTENTION: {count} things are not as they should be\n"),
    };
    let names = checks.iter().map(|one| <&str>::from(one.check).len());
    let width = names.max().unwrap_or_default();
    let mut subject = "";
    for one in checks {
        if one.subject != subject {
            subject = &one.subject;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\n{subject}");
        }
        let verdict = match one.verdict {
            Verdict::Ok => "ok",
            Verdict::Alarm => "ALARM",
        };
        let start = format!("  {verdict:5}  {:width$}  ", <&str>::from(one.check));
        wrap(&mut text, &start, start.len(), &one.detail);
        if let Some(todo) = &one.todo {
            let indent = " ".repeat(start.len());
            wrap(&mut text, &format!("{indent}-> "), start.len() + 3, todo);
        }
    }
    text
}
