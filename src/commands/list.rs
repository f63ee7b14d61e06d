//! `list`: what the store holds; of this host only which sets are being made now.

use jiff::Timestamp;

use super::{Context, Failure, print};
use crate::catalog::at_work::note_at_work;
use crate::catalog::summary::SetState;
use crate::catalog::{self, render};
use crate::cli::ListArgs;
use crate::error::Exit;

pub async fn list(context: Context, arguments: ListArgs) -> Result<Exit, Failure> {
    let store = context.store_of(&arguments.place)?;
    let mut sets = catalog::list(store.as_ref()).await?;
    note_at_work(&mut sets, &context.config.host.state_dir);
    print(context.json, &sets, || {
        render::table(&sets, Timestamp::now())
    })?;
    let unreadable = sets.iter().any(|set| set.state == SetState::Unreadable);
    Ok(if unreadable { Exit::Store } else { Exit::Done })
}
