//! mongod's log, read for the one line that tells why it ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The end of the log that is looked at, in bytes; a fatal line is among the last.
const TAIL: u64 = 256 * 1024;
/// A line longer than this many characters is cut.
const LINE: usize = 400;

/// The most telling line of the log at `log`, or of what mongod wrote to its console before it had one.
pub(super) fn telling(log: &Path, console: &Path) -> String {
    [log, console]
        .into_iter()
        .filter_map(|path| tail(path).ok())
        .find_map(|text| most_telling(&text))
        .unwrap_or_else(|| "it said nothing".into())
}

/// Whether it ended because somebody else took the port.
pub(super) fn port_was_taken(log: &Path) -> bool {
    tail(log).is_ok_and(|text| {
        text.lines()
            .any(|line| line.contains("SocketException") && line.contains("Address already in use"))
    })
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The line that names the cause: a fatal one that carries an error, else the first error (those after it are its
/// consequences), else any fatal one, else the last.
pub(crate) fn most_telling(text: &str) -> Option<String> {
    let (mut cause, mut error, mut fatal, mut last) = (None, None, None, None);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        // Servers before 4.4, and option errors, write plain lines.
        let (severity, told) = structured(line).unwrap_or(('-', line.trim().to_owned()));
        match severity {
            'F' if told.contains("error: ") => cause = cause.or(Some(told.clone())),
            'F' if !told.contains("***aborting") => fatal = fatal.or(Some(told.clone())),
            'E' => error = error.or(Some(told.clone())),
            _ => {}
        }
        last = Some(told);
    }
    let line = cause.or(error).or(fatal).or(last)?;
    Some(match line.char_indices().nth(LINE) {
        Some((cut, _)) => format!("{}...", line.get(..cut).unwrap_or_default()),
        None => line,
    })
}

/// Severity and text of a structured log line (4.4 and later).
fn structured(line: &str) -> Option<(char, String)> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let severity = value.get("s")?.as_str()?.chars().next()?;
    let message = value.get("msg")?.as_str()?.trim();
    let attributes = match value.get("attr") {
        Some(serde_json::Value::Object(map)) => map
            .iter()
            .map(|(name, value)| match value.as_str() {
                Some(text) => format!("{name}: {}", text.trim()),
                None => format!("{name}: {value}"),
            })
            .collect::<Vec<_>>()
            .join(", "),
        _ => String::new(),
    };
    Some((
        severity,
        if attributes.is_empty() {
            message.to_owned()
        } else {
            format!("{message} ({attributes})")
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_that_tells() {
        let line = |s: &str, msg: &str, attr: &str| {
            format!(
                r#"{{"t":{{"$date":"2026-01-31T02:00:00Z"}},"s":"{s}","c":"STORAGE","id":1,"ctx":"main","msg":"{msg}","attr":{attr}}}"#
            )
        };
        let info = line("I", "Shutting down", r#"{"exitCode":100}"#);
        let error = line(
            "E",
            "DBException in initAndListen, terminating",
            r#"{"error":"DBPathInUse: in use"}"#,
        );
        let fatal = line(
            "F",
            "Fatal assertion",
            r#"{"msgid":28595,"error":"UnknownError"}"#,
        );
        let bare = line("F", "Fatal assertion", r#"{"msgid":50853}"#);
        let abort = line("F", r"\n\n***aborting after fassert() failure\n\n", "{}");
        let table = [
            (
                vec![&error, &info],
                "DBException in initAndListen, terminating (error: DBPathInUse: in use)",
            ),
            (
                vec![&error, &fatal, &abort],
                "Fatal assertion (error: UnknownError, msgid: 28595)",
            ),
            (
                vec![&error, &bare, &abort],
                "DBException in initAndListen, terminating (error: DBPathInUse: in use)",
            ),
            (vec![&bare, &abort], "Fatal assertion (msgid: 50853)"),
            (vec![&info], "Shutting down (exitCode: 100)"),
        ];
        for (lines, expected) in table {
            let text: Vec<&str> = lines.into_iter().map(String::as_str).collect();
            assert_eq!(most_telling(&text.join("\n")).as_deref(), Some(expected));
        }
        assert_eq!(
            most_telling("Error parsing command line: unrecognised option '--x'\n\n").as_deref(),
            Some("Error parsing command line: unrecognised option '--x'")
        );
        assert_eq!(most_telling("\n"), None);
        assert_eq!(
            most_telling(&"ä".repeat(1000)).map(|line| line.chars().count()),
            Some(LINE + 3)
        );
    }
}
