//! `hold`: a backup that stays, whatever the rules of retention say.

use jiff::Timestamp;

use super::{Context, Failure, print};
use crate::catalog::hold::{Held, Hold, hold, release};
use crate::catalog::{self, CatalogError};
use crate::cli::HoldArgs;
use crate::error::Exit;
use crate::host;
use crate::ids::BackupId;

/// What `hold --json` prints.
#[derive(Debug, serde::Serialize)]
struct Printed {
    id: BackupId,
    hold: Option<Hold>,
}

pub async fn run(context: Context, arguments: HoldArgs) -> Result<Exit, Failure> {
    let store = context.store_of(&arguments.which.place)?;
    let id = catalog::resolve(store.as_ref(), &arguments.which.id).await?;
    if arguments.release {
        // A name that nobody has is a slip of the keyboard. What is held may be no backup any more.
        match catalog::read_recorded(store.as_ref(), id).await {
            Err(error @ CatalogError::NoSuchSet { .. }) => return Err(error.into()),
            Err(CatalogError::Store(error)) => return Err(error.into()),
            _ => release(store.as_ref(), id).await?,
        }
        let printed = Printed { id, hold: None };
        print(context.json, &printed, || {
            format!("{id} is held no more: the rules of [retention] say how long it stays\n")
        })?;
        return Ok(Exit::Done);
    }
    let wanted = Hold {
        at: Some(Timestamp::now()),
        host: Some(host::name()),
        note: arguments.note,
    };
    let held = hold(store.as_ref(), id, wanted).await?;
    let text = match &held {
        Held::Now(_) => {
            let place = arguments.which.place.argument();
            format!("{id} is not pruned until `freezeframe hold {id}{place} --release`\n")
        }
        Held::Before(hold) => format!("{id} was {hold}; that stays as it is\n"),
    };
    let (Held::Now(hold) | Held::Before(hold)) = held;
    let printed = Printed {
        id,
        hold: Some(hold),
    };
    print(context.json, &printed, || text)?;
    Ok(Exit::Done)
}
