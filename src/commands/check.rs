//! `check`: everything that stands in the way, before it hurts.

use std::fmt::Write;
use std::time::Duration;

use super::{Context, Failure, print};
use crate::backup::preflight::examine::Aim;
use crate::backup::preflight::examine::STORE;
use crate::backup::preflight::{Examination, Finding, Verdict, examine, worst};
use crate::error::{Exit, Explain};
use crate::human;
use crate::ids::RunId;
use crate::store::Store;

/// How long a store is tried: somebody waits for the answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest line of text, in characters.
const WIDTH: usize = 100;

pub async fn run(context: Context) -> Result<Exit, Failure> {
    let json = context.json;
    // A store that cannot be opened is one finding among others.
    let settings = context.stores.clone().impatient(PATIENCE);
    let store = context.store_with(&context.config.store.url, &settings);
    let env = context.environment(store);
    let mut examination = examine(&env, RunId::random(), Aim::Backup).await?;
    for copy in &context.config.copy {
        let settings = context.stores.clone().impatient(PATIENCE);
        let store = context.store_of_copies(copy, &settings);
        examination
            .findings
            .push(look_at_copies(store.as_ref()).await);
    }
    print(json, &examination, || render(&examination))?;
    Ok(exit(&examination.findings))
}

/// Whether backups can be copied to `store`. Where they cannot they are made all the same.
async fn look_at_copies(store: &dyn Store) -> Finding {
    match store.probe().await {
        Ok(()) => Finding::ok(store.url(), "copy", "can be written and read"),
        Err(error) => {
            let todo = error.hint().unwrap_or_else(|| "see [[copy]] url".into());
            Finding::warning(store.url(), "copy", error.to_string(), todo)
        }
    }
}

/// A store that is refused is told by its own code, also beside other refusals, as a store that fails is by the verbs that use it.
fn exit(findings: &[Finding]) -> Exit {
    let store = |finding: &Finding| finding.check == STORE && finding.verdict == Verdict::Refused;
    match worst(findings) {
        Verdict::Refused if findings.iter().any(store) => Exit::Store,
        Verdict::Refused => Exit::Refused,
        Verdict::Warning | Verdict::Ok => Exit::Done,
    }
}

fn render(examination: &Examination) -> String {
    let mut text = findings(&examination.findings);
    let layouts = examination.layouts.iter();
    for filesystem in layouts.flat_map(|layout| &layout.filesystems) {
        let _ = writeln!(text, "{}\n", filesystem.draw());
    }
    let expected = match examination.is_of_volumes() {
        true => "until EC2 has completed the snapshots: minutes to hours, the first ones longest"
            .to_owned(),
        false => {
            let expected = Duration::from_secs(examination.expected_seconds);
            human::duration(expected).to_string()
        }
    };
    for (name, value) in [
        ("data", human::size(examination.data_bytes)),
        ("expected to take", expected),
        ("snapshot space", human::size(examination.snapshot_bytes)),
    ] {
        let _ = writeln!(text, "{name:16}  {value}");
    }
    text + "\n" + &verdict(&examination.findings)
}

/// Every finding, below what it is about.
fn findings(findings: &[Finding]) -> String {
    let mut subjects: Vec<&str> = Vec::new();
    for finding in findings {
        if !subjects.contains(&finding.subject.as_str()) {
            subjects.push(&finding.subject);
        }
    }
    let names = findings.iter().map(|finding| finding.check.len());
    let name_width = names.max().unwrap_or_default();
    let mut text = String::new();
    for subject in subjects {
        let _ = writeln!(text, "{subject}");
        for finding in findings.iter().filter(|finding| finding.subject == subject) {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Refused => "REFUSED",
            };
            let start = format!("  {verdict:7}  {:name_width$}  ", finding.check);
            wrap(&mut text, &start, start.len(), finding.predicate());
            if let Some(todo) = &finding.todo {
                let indent = " ".repeat(start.len());
                wrap(&mut text, &format!("{indent}-> "), start.len() + 3, todo);
            }
        }
        text.push('\n');
    }
    text
}

/// The last word: what refuses a backup, once more and in whole sentences, or that nothing does.
fn verdict(findings: &[Finding]) -> String {
    let of = |verdict| {
        findings
            .iter()
            .filter(move |finding| finding.verdict == verdict)
    };
    let warnings = match of(Verdict::Warning).count() {
        0 => String::new(),
        1 => ", with 1 warning".to_owned(),
        count => format!(", with {count} warnings"),
    };
    if worst(findings) < Verdict::Refused {
        return format!("READY: a backup can be made{warnings}\n");
    }
    let mut text = format!("REFUSED: no backup can be made{warnings}\n");
    for finding in of(Verdict::Refused) {
        wrap(&mut text, "  ", 4, &finding.sentence());
    }
    text
}

/// Appends `content` after `start`, broken between words; lines after the first are indented. What has lines of its
/// own keeps them.
pub(super) fn wrap(text: &mut String, start: &str, indent: usize, content: &str) {
    let mut line = start.to_owned();
    let mut fresh = true;
    for (number, own_line) in content.lines().enumerate() {
        if number > 0 {
            let _ = writeln!(text, "{}", line.trim_end());
            line = format!("{}{own_line}", " ".repeat(indent));
            continue;
        }
        for word in own_line.split(' ') {
            let full = line.chars().count() + 1 + word.chars().count() > WIDTH;
            if full && !fresh {
                let _ = writeln!(text, "{line}");
                line = " ".repeat(indent);
                fresh = true;
            }
            if !fresh {
                line.push(' ');
            }
            line.push_str(word);
            fresh = false;
        }
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Finding> {
        let member = "rs0 at db3:27018";
        vec![
            Finding::ok("file:///backups", "store", "can be written and read"),
            Finding::refused(
                member,
                "state",
                format!("{member} is PRIMARY"),
                "name a hidden secondary of rs0 in [mongodb] members",
            ),
            Finding::warning("host", "other_mongod", "one more", "name it"),
            Finding::ok(member, "journal", "on"),
            Finding::refused(
                member,
                "majority",
                format!(
                    "{member} votes, and only 1 other healthy data-bearing voter remains while it is locked: majority writes need 2 and would stall"
                ),
                "give the hidden member votes: 0",
            ),
        ]
    }

    #[test]
    fn findings_stand_below_their_subject_in_columns() {
        snapbox::assert_data_eq!(
            findings(&sample()),
            snapbox::str![[r#"
file:///backups
  ok       store         can be written and read

rs0 at db3:27018
  REFUSED  state         is PRIMARY
                         -> name a hidden secondary of rs0 in [mongodb] members
  ok       journal       on
  REFUSED  majority      votes, and only 1 other healthy data-bearing voter remains while it is
                         locked: majority writes need 2 and would stall
                         -> give the hidden member votes: 0

host
  warning  other_mongod  one more
                         -> name it


"#]]
        );
        assert!(
            findings(&sample())
                .lines()
                .all(|line| line.chars().count() <= WIDTH)
        );
    }

    #[test]
    fn the_last_word_is_the_verdict() {
        snapbox::assert_data_eq!(
            verdict(&sample()),
            snapbox::str![[r#"
REFUSED: no backup can be made, with 1 warning
  rs0 at db3:27018 is PRIMARY; name a hidden secondary of rs0 in [mongodb] members
  rs0 at db3:27018 votes, and only 1 other healthy data-bearing voter remains while it is locked:
    majority writes need 2 and would stall; give the hidden member votes: 0

"#]]
        );
        let warned = &sample()[2..4];
        assert_eq!(
            verdict(warned),
            "READY: a backup can be made, with 1 warning\n"
        );
        assert_eq!(verdict(&sample()[..1]), "READY: a backup can be made\n");
    }

    #[test]
    fn lines_of_their_own_stay() {
        let mut text = String::new();
        wrap(&mut text, "> ", 4, "a\n└─ b   c\n");
        assert_eq!(text, "> a\n    └─ b   c\n");
    }
}
