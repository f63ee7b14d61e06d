//! `list` and `show`: what the store holds. They read nothing else.

use jiff::Timestamp;

use super::{Context, Failure, print};
use crate::catalog::{self, render};
use crate::cli::Which;
use crate::error::Exit;

pub async fn list(context: Context) -> Result<Exit, Failure> {
    let sets = catalog::list(context.store()?.as_ref()).await?;
    print(context.json, &sets, || {
        render::table(&sets, Timestamp::now())
    })?;
    Ok(Exit::Done)
}

pub async fn show(context: Context, which: Which) -> Result<Exit, Failure> {
    let store = context.store()?;
    let id = catalog::resolve(store.as_ref(), &which.id).await?;
    let manifest = catalog::load(store.as_ref(), id).await?;
    let sets = catalog::list(store.as_ref()).await?;
    let summary = sets.iter().find(|set| set.id == id);
    print(context.json, &manifest, || {
        summary.map_or_else(String::new, |set| render::set(set, &manifest))
    })?;
    Ok(Exit::Done)
}
