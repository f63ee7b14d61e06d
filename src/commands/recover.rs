//! `recover`: give back what dead runs left.

use std::fmt::Write;

use super::{Context, Failure, print};
use crate::cli::RecoverArgs;
use crate::error::Exit;
use crate::recover::{Recovered, overdue, recover};

pub async fn run(context: Context, arguments: RecoverArgs) -> Result<Exit, Failure> {
    let state_dir = &context.config.host.state_dir;
    let recovered = match arguments.overdue {
        Some(run) => overdue(state_dir, run, &context.tools).await?,
        None => recover(state_dir, arguments.run, &context.tools).await?,
    };
    print(context.json, &recovered, || render(&recovered))?;
    let all_well = recovered.iter().all(|run| run.failed.is_empty());
    Ok(if all_well {
        Exit::Done
    } else {
        Exit::StillHeld
    })
}

fn render(recovered: &[Recovered]) -> String {
    if recovered.is_empty() {
        return "nothing to recover\n".into();
    }
    let mut text = String::new();
    for run in recovered {
        let _ = writeln!(
            text,
            "run {} ({}, begun {:.0})",
            run.run, run.verb, run.started
        );
        for resource in &run.released {
            let _ = writeln!(text, "  given back  {resource}");
        }
        for failure in &run.failed {
            let _ = writeln!(
                text,
                "  STILL HELD  {}: {}",
                failure.resource, failure.reason
            );
            if let Some(hint) = &failure.hint {
                let _ = writeln!(text, "              {hint}");
            }
        }
    }
    text
}
