//! `metrics`: figures for Prometheus, printed, written to a file, or served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::status::stand;
use super::{Context, Failure, print};
use crate::blocking::off_thread;
use crate::cli::MetricsArgs;
use crate::config::{Config, StoreUrl};
use crate::error::Exit;
use crate::retention::Rules;
use crate::service::under_watch;
use crate::watch::Standing;
use crate::watch::error::WatchError;
use crate::watch::exposition::text;
use crate::watch::look::{CopySeen, Question};
use crate::watch::series::Scope;
use crate::watch::serve::{PATH, listen, serve};
use crate::watch::watcher::Watcher;
use crate::whole;

/// How long what is made once waits for the store.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(context: Context, arguments: MetricsArgs) -> Result<Exit, Failure> {
    if let Some(address) = arguments.listen {
        return listen_and_serve(context, address.map(|given| given.0)).await;
    }
    if let Some(file) = arguments.textfile {
        let configured = || context.config.metrics.textfile.clone();
        let file = file.or_else(configured).ok_or(WatchError::NoTextFile)?;
        write_textfile(&context.config, file).await?;
        return Ok(Exit::Done);
    }
    let page = text(
        &stand(&context.config, PATIENCE).await,
        &context.config.watch,
    );
    // It is for programs already.
    print(false, &(), || page)?;
    Ok(Exit::Done)
}

/// Writes the figures, as they are now, to `file`.
///
/// # Errors
/// [`WatchError::TextFile`].
pub(super) async fn write_textfile(config: &Config, file: PathBuf) -> Result<(), WatchError> {
    let page = text(&stand(config, PATIENCE).await, &config.watch);
    let path = file.clone();
    let written = off_thread(move || whole::replace(&path, page.as_bytes(), READABLE)).await;
    written.map_err(|source| WatchError::TextFile { path: file, source })
}

/// node_exporter is another user.
const READABLE: u32 = 0o644;

/// Asks the store at `url` now and then.
fn watcher(config: &Config, url: &StoreUrl) -> Watcher {
    let question = Question::new(config, url);
    Watcher::new(
        url.as_str(),
        config.host.state_dir.clone(),
        config.metrics.refresh.0,
        move || Box::pin(question.clone().ask()),
    )
}

async fn listen_and_serve(
    context: Context,
    address: Option<std::net::SocketAddr>,
) -> Result<Exit, Failure> {
    let config = Arc::new(context.config);
    let listener = listen(address.unwrap_or(config.metrics.listen)).await?;
    let address = listener.local_addr().map_err(super::EdgeError::Runtime)?;
    if !address.ip().is_loopback() {
        tracing::warn!(
            "whoever can reach {address} may read the names of replica sets, sizes and times"
        );
    }
    tracing::info!("serving http://{address}{PATH}");
    let first = Arc::new(watcher(&config, &config.store.url));
    let of_copies = config.copy.iter();
    let of_copies: Arc<Vec<(Watcher, Rules)>> = Arc::new(
        of_copies
            .map(|copy| (watcher(&config, &copy.url), copy.rules()))
            .collect(),
    );
    let scope = Scope::of(config.watch.scope);
    let page = move || {
        let (first, of_copies) = (first.clone(), of_copies.clone());
        let (config, scope) = (config.clone(), scope.clone());
        async move {
            let looking = of_copies.iter().map(|(watcher, rules)| async {
                CopySeen {
                    store: watcher.look().await.0,
                    rules: rules.clone(),
                }
            });
            let ((store, host), copies) = tokio::join!(first.look(), join_all(looking));
            let standing = Standing::of(&store, &copies, &host, &scope, Timestamp::now());
            text(&standing, &config.watch)
        }
    };
    under_watch(serve(listener, page, &context.cancel)).await;
    Ok(Exit::Done)
}
