//! `copy`: backups of one store into others.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use tokio::time::Instant;

use super::{Context, Failure, print};
use crate::catalog;
use crate::cli::CopyArgs;
use crate::config::{CopyConfig, StoreUrl};
use crate::copy::{
    Copied, CopyError, Order, Placed, Whose, bring_up_to_date, clear_up_after_dead, copy_one,
};
use crate::error::{Exit, Explain};
use crate::ids::BackupId;
use crate::service::under_watch;
use crate::store::SharedStore;

pub async fn run(context: Context, arguments: CopyArgs) -> Result<Exit, Failure> {
    under_watch(async {
        let from = context.store_of(&arguments.place)?;
        let id = match &arguments.id {
            Some(text) => Some(catalog::resolve(from.as_ref(), text).await?),
            None => None,
        };
        let wanted = match id {
            Some(id) => Wanted::One(id),
            None => Wanted::Due(Whose::Everybodys),
        };
        let source = arguments.place.store.as_ref();
        let source = source.unwrap_or(&context.config.store.url);
        let targets = targets(&context, source, arguments.to.as_ref(), &wanted)?;
        let reports = copy_to_all(&context, &from, &targets, &wanted).await;
        print(context.json, &reports, || render(&reports))?;
        Ok(exit(reports.iter()))
    })
    .await
}

/// For how long after a backup older ones are begun to be copied that lack: the next night's is not to be missed for them.
const CATCHING_UP: Duration = Duration::from_secs(4 * 3600);

/// What is to be copied.
pub(super) enum Wanted {
    /// This backup.
    One(BackupId),
    /// Whatever is due.
    Due(Whose),
    /// The same after a backup, which is to be among it.
    Made(BackupId, Whose),
}

/// Nobody knows where to.
#[derive(Debug, Error)]
enum Whither {
    #[error("there is no store to copy to")]
    Nowhere,
    #[error(
        "{0} is no [[copy]] of the configuration, and nobody knows which backups are to be there"
    )]
    NotConfigured(StoreUrl),
    #[error("{0} is where the backups are")]
    Itself(StoreUrl),
}

impl Explain for Whither {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Nowhere => "write a [[copy]] with its url into the configuration, or name a backup and --to STORE".into(),
            Self::NotConfigured(_) => "name a backup as well, such as `latest`".into(),
            Self::Itself(_) => "name another one with --to, or with --store where they are to come from".into(),
        })
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// The stores that are meant: those of the configuration, or one.
fn targets(
    context: &Context,
    source: &StoreUrl,
    asked: Option<&StoreUrl>,
    wanted: &Wanted,
) -> Result<Vec<CopyConfig>, Whither> {
    let configured = &context.config.copy;
    let Some(asked) = asked else {
        let others: Vec<_> = configured
            .iter()
            .filter(|copy| copy.url != *source)
            .cloned()
            .collect();
        return match others.is_empty() {
            true => Err(Whither::Nowhere),
            false => Ok(others),
        };
    };
    if asked == source {
        return Err(Whither::Itself(asked.clone()));
    }
    match (context.config.copy_at(asked), wanted) {
        (Some(copy), _) => Ok(vec![copy.clone()]),
        (None, Wanted::One(_)) => Ok(vec![CopyConfig::unconfigured(asked.clone())]),
        (None, Wanted::Due(_) | Wanted::Made(..)) => Err(Whither::NotConfigured(asked.clone())),
    }
}

/// Of each store what came of it.
pub(super) async fn copy_to_all(
    context: &Context,
    from: &SharedStore,
    targets: &[CopyConfig],
    wanted: &Wanted,
) -> Vec<Report> {
    clear_up_after_dead(&context.config.host.state_dir, &context.tools).await;
    let mut reports = Vec::new();
    for target in targets {
        let to = context.store_of_copies(target, &context.stores);
        let order = Order {
            from,
            to: &to,
            read_back: target.read_back,
            state_dir: &context.config.host.state_dir,
            tools: &context.tools,
            progress: &context.terminal,
            cancel: &context.cancel,
        };
        let copied = match wanted {
            Wanted::Due(whose) => bring_up_to_date(&order, &target.rules(), whose, None).await,
            Wanted::Made(id, whose) => {
                let no_later = Some(Instant::now() + CATCHING_UP);
                let mut copied = bring_up_to_date(&order, &target.rules(), whose, no_later).await;
                copied.miss(*id, &order).await;
                copied
            }
            Wanted::One(id) => one(&order, *id).await,
        };
        reports.push(Report::new(to.url(), copied));
    }
    reports
}

async fn one(order: &Order<'_>, id: BackupId) -> Copied {
    let mut copied = Copied::default();
    match copy_one(order, id).await {
        Ok(Placed::Copied) => copied.copied.push(id),
        Ok(Placed::WasThere) => copied.was_there.push(id),
        Err(error) => copied.failed.push((id, error)),
    }
    copied
}

/// What came of one store. A list of these is what `copy --json` prints.
#[derive(Serialize)]
pub(super) struct Report {
    store: String,
    copied: Vec<BackupId>,
    was_there: Vec<BackupId>,
    failed: Vec<Failed>,
    /// Whose run copies there already, and goes on with what is left.
    copied_by: Option<String>,
    error: Option<String>,
    hint: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Serialize)]
struct Failed {
    id: BackupId,
    error: String,
    hint: Option<String>,
}

impl Report {
    fn new(store: String, copied: Copied) -> Self {
        let ended = copied.ended.as_ref();
        let errors = ended
            .into_iter()
            .chain(copied.failed.iter().map(|(_, error)| error));
        let exit = errors.map(CopyError::exit).next().unwrap_or(Exit::Done);
        Self {
            store,
            error: ended.map(ToString::to_string),
            hint: ended.and_then(Explain::hint),
            copied: copied.copied,
            was_there: copied.was_there,
            failed: copied
                .failed
                .into_iter()
                .map(|(id, error)| Failed {
                    id,
                    hint: error.hint(),
                    error: error.to_string(),
                })
                .collect(),
            copied_by: copied.by_others,
            exit,
        }
    }

    /// Why something that should be there is not; none where nothing lacks.
    fn trouble(&self) -> Option<String> {
        let of_one = self.failed.first();
        let of_one = of_one.map(|failed| format!("{}: {}", failed.id, failed.error));
        self.error.clone().or(of_one)
    }

    fn todo(&self) -> Option<String> {
        let of_one = || self.failed.first().and_then(|failed| failed.hint.clone());
        self.hint.clone().or_else(of_one)
    }
}

/// The code of the first that did not end well.
pub(super) fn exit<'a>(reports: impl Iterator<Item = &'a Report>) -> Exit {
    let mut codes = reports.map(|report| report.exit);
    codes.find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done)
}

fn render(reports: &[Report]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for report in reports {
        let _ = writeln!(text, "{}", report.store);
        for id in &report.copied {
            let _ = writeln!(text, "  copied    {id}");
        }
        for id in &report.was_there {
            let _ = writeln!(text, "  there     {id}");
        }
        for failed in &report.failed {
            let _ = writeln!(text, "  FAILED    {}: {}", failed.id, failed.error);
            let _ = failed
                .hint
                .iter()
                .try_for_each(|hint| writeln!(text, "            -> {hint}"));
        }
        if let Some(other) = &report.copied_by {
            let _ = writeln!(text, "  {other}");
        }
        match &report.error {
            Some(error) => {
                let _ = writeln!(text, "  FAILED    {error}");
                let _ = report
                    .hint
                    .iter()
                    .try_for_each(|hint| writeln!(text, "            -> {hint}"));
            }
            None if report.copied.is_empty()
                && report.was_there.is_empty()
                && report.failed.is_empty()
                && report.copied_by.is_none() =>
            {
                let _ = writeln!(text, "  nothing lacks");
            }
            None => {}
        }
    }
    text
}

/// A backup was made, and lacks in a store that it was to be copied to.
#[derive(Debug, Error)]
#[error("{id} is made and whole in {first}, but it is not copied:{}", lines(.troubles))]
pub(super) struct NotCopied {
    id: BackupId,
    first: String,
    troubles: Vec<(String, String)>,
    hint: Option<String>,
    exit: Exit,
}

fn lines(troubles: &[(String, String)]) -> String {
    let line = |(store, trouble): &(String, String)| format!("\n  to {store}: {trouble}");
    troubles.iter().map(line).collect()
}

impl NotCopied {
    /// What `reports` say, where something lacks.
    pub(super) fn of(id: BackupId, first: &StoreUrl, reports: &[Report]) -> Option<Self> {
        let troubles: Vec<_> = reports
            .iter()
            .filter_map(|report| Some((report.store.clone(), report.trouble()?)))
            .collect();
        (!troubles.is_empty()).then(|| Self {
            id,
            first: first.to_string(),
            troubles,
            hint: reports.iter().find_map(Report::todo),
            // The backup is there; what the codes of backups that failed say is not true of it.
            exit: match exit(reports.iter()) {
                exit @ (Exit::StillHeld | Exit::Interrupted) => exit,
                _ => Exit::Store,
            },
        })
    }
}

impl NotCopied {
    /// The stores that lack it, and why.
    pub(super) fn troubles(&self) -> &[(String, String)] {
        &self.troubles
    }
}

impl Explain for NotCopied {
    fn hint(&self) -> Option<String> {
        let again = "the next backup tries again, and so does `freezeframe copy`";
        Some(match &self.hint {
            Some(hint) => format!("{hint}; {again}"),
            None => again.to_owned(),
        })
    }

    fn exit(&self) -> Exit {
        self.exit
    }
}
