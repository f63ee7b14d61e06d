//! `check`: everything that stands in the way, before it hurts.

use std::fmt::Write;

use bytesize::ByteSize;

use super::{Context, Failure, print};
use crate::backup::preflight::{Examination, Finding, Verdict, examine, worst};
use crate::error::Exit;
use crate::ids::RunId;

pub async fn run(context: Context) -> Result<Exit, Failure> {
    let (json, env) = (context.json, context.environment()?);
    let examination = examine(&env, RunId::random()).await?;
    print(json, &examination, || render(&examination))?;
    Ok(if worst(&examination.findings) == Verdict::Refused {
        Exit::Refused
    } else {
        Exit::Done
    })
}

fn render(examination: &Examination) -> String {
    let mut text = String::new();
    for finding in &examination.findings {
        line(&mut text, finding);
    }
    for filesystem in examination
        .layouts
        .iter()
        .flat_map(|layout| &layout.filesystems)
    {
        let _ = write!(text, "\n{}", filesystem.draw());
    }
    let _ = writeln!(
        text,
        "\ndata {}, expected duration {}, copy-on-write space {}",
        ByteSize::b(examination.data_bytes),
        humantime::format_duration(std::time::Duration::from_secs(examination.expected_seconds)),
        ByteSize::b(examination.snapshot_bytes),
    );
    let count = |verdict| {
        examination
            .findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    let (refused, warnings) = (count(Verdict::Refused), count(Verdict::Warning));
    let _ = match refused {
        0 => writeln!(text, "a backup can be made ({warnings} warnings)"),
        _ => writeln!(
            text,
            "a backup is refused for {refused} reasons ({warnings} warnings)"
        ),
    };
    text
}

fn line(text: &mut String, finding: &Finding) {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok     ",
        Verdict::Warning => "warning",
        Verdict::Refused => "REFUSED",
    };
    let _ = writeln!(
        text,
        "{verdict}  {}: {}: {}",
        finding.subject, finding.check, finding.detail
    );
    if let Some(todo) = &finding.todo {
        let _ = writeln!(text, "           -> {todo}");
    }
}
