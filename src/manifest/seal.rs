//! Sealed JSON: how manifests, intents and verification records are written, so that any changed byte is found.
//!
//! The document is a JSON object. Its last member is `seal`, and the file ends with exactly
//! `,\n  "seal": "` + 64 hexadecimal digits + `"\n}\n` (81 bytes). The digits are the BLAKE3 hash of every
//! byte before those 81. `head -c -81 manifest.json | b3sum` checks it without this program.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::FORMAT_VERSION;
use crate::error::{Exit, Explain};
use crate::ids::Hash;

const HEAD: &[u8] = b",\n  \"seal\": \"";
const TAIL: &[u8] = b"\"\n}\n";
const DIGITS: usize = 64;
/// Ten thousand times what a manifest of one replica set holds. A value costs two bytes in the document and more than
/// thirty in memory.
const MOST_VALUES: usize = 1 << 20;

/// Why a sealed document cannot be read.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SealError {
    /// It is no JSON, or not the JSON of this document.
    #[error("line {line}, column {column}: {reason}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column, from 1; 0 where the parser does not know.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// It holds more values than any document, and reading them would take many times its size in memory.
    #[error("it holds more than {MOST_VALUES} values")]
    TooMuch,
    /// A newer program wrote it.
    #[error("made by a newer freezeframe (format {format}; this one reads up to {FORMAT_VERSION})")]
    Future {
        /// The version it has.
        format: u64,
    },
    /// No program ever wrote this version.
    #[error("its format version {format} was never in use")]
    NeverUsed {
        /// The version it claims.
        format: u64,
    },
    /// It does not end with a seal.
    #[error("it does not end with its seal: it is cut short, or was edited")]
    NoSeal,
    /// The seal is that of other bytes.
    #[error(
        "it was changed after it was written: its seal says {expected}, its bytes give {actual}"
    )]
    Broken {
        /// The hash in the seal.
        expected: Hash,
        /// The hash of the bytes.
        actual: Hash,
    },
}

impl Explain for SealError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Future { .. } => "upgrade freezeframe on this host".into(),
            _ => "the stored object is damaged: use another backup, or a copy of this one".into(),
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Future { .. } => Exit::Refused,
            _ => Exit::Damaged,
        }
    }
}

/// Writes `document`, which must be a struct with at least one field, and seals it.
pub fn seal<T: Serialize>(document: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(document)?;
    if !bytes.ends_with(b"\n}") {
        return Err(serde::ser::Error::custom(
            "only an object with members can be sealed",
        ));
    }
    bytes.truncate(bytes.len().saturating_sub(2));
    Ok(seal_body(bytes))
}

/// Appends the seal of `body` to it.
pub(crate) fn seal_body(mut body: Vec<u8>) -> Vec<u8> {
    let hash = Hash::from(blake3::hash(&body));
    body.extend_from_slice(HEAD);
    body.extend_from_slice(hash.to_string().as_bytes());
    body.extend_from_slice(TAIL);
    body
}

/// The one member that every version of every document has.
#[derive(serde::Deserialize)]
struct Header {
    format: u64,
}

/// Reads a sealed document: first that it is JSON, then its version and seal, then its content.
///
/// Members that this version does not know are passed over: within one format version they may be added.
pub fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SealError> {
    // Every value but the first in its list or object has a comma before it. One inside a text is counted, too.
    let values = bytes
        .iter()
        .filter(|byte| matches!(byte, b',' | b'[' | b'{'));
    if values.count() > MOST_VALUES {
        return Err(SealError::TooMuch);
    }
    let header: Header = parse(bytes)?;
    let future = header.format > u64::from(FORMAT_VERSION);
    match check(bytes) {
        Ok(()) => {}
        // A later format may be sealed in another way. A broken seal of ours is damage, whatever version it claims.
        Err(SealError::NoSeal) if future => {}
        Err(error) => return Err(error),
    }
    match header.format {
        format if future => Err(SealError::Future { format }),
        0 => Err(SealError::NeverUsed { format: 0 }),
        _ => parse(bytes),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SealError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let reason = error.to_string();
        // serde_json appends the place, which the message names already.
        let place = format!(" at line {} column {}", error.line(), error.column());
        SealError::Malformed {
            line: error.line(),
            column: error.column(),
            reason: reason.strip_suffix(&place).unwrap_or(&reason).to_owned(),
        }
    })
}

/// Whether the last 81 bytes are the seal of those before.
fn check(bytes: &[u8]) -> Result<(), SealError> {
    let (body, expected) = bytes
        .strip_suffix(TAIL)
        .and_then(|rest| rest.split_last_chunk::<DIGITS>())
        .and_then(|(rest, digits)| Some((rest.strip_suffix(HEAD)?, digits)))
        .and_then(|(body, digits)| Some((body, std::str::from_utf8(digits).ok()?)))
        .and_then(|(body, digits)| Some((body, digits.parse::<Hash>().ok()?)))
        .ok_or(SealError::NoSeal)?;
    let actual = Hash::from(blake3::hash(body));
    if actual == expected {
        Ok(())
    } else {
        Err(SealError::Broken { expected, actual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sealed() -> Vec<u8> {
        seal(&json!({"format": 1, "text": "a\n\"seal\"", "list": [1, {}]})).unwrap()
    }

    #[test]
    fn the_written_form_is_the_documented_one() {
        let bytes = sealed();
        let text = std::str::from_utf8(&bytes).unwrap();
        let body = &text[..text.len() - 81];
        let hash = blake3::hash(body.as_bytes()).to_hex();
        assert_eq!(
            &text[text.len() - 81..],
            format!(",\n  \"seal\": \"{hash}\"\n}}\n")
        );
        let value: Value = open(&bytes).unwrap();
        assert_eq!(value["text"], "a\n\"seal\"");
    }

    #[test]
    fn every_changed_bit_is_found() {
        let bytes = sealed();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let error = open::<Value>(&changed).unwrap_err();
                assert_eq!(error.exit(), Exit::Damaged, "byte {at}, bit {bit}: {error}");
            }
        }
    }

    #[test]
    fn every_truncation_and_every_appended_byte_is_found() {
        let bytes = sealed();
        for length in 0..bytes.len() {
            assert_eq!(
                open::<Value>(&bytes[..length]).unwrap_err().exit(),
                Exit::Damaged
            );
        }
        for byte in 0..=255u8 {
            let mut longer = bytes.clone();
            longer.push(byte);
            assert_eq!(
                open::<Value>(&longer).unwrap_err().exit(),
                Exit::Damaged,
                "{byte}"
            );
        }
    }

    #[test]
    fn a_later_version_is_refused_whatever_its_seal_is_like() {
        let message = "made by a newer freezeframe (format 7; this one reads up to 3)";
        for bytes in [
            seal(&json!({"format": 7, "unknown": true})).unwrap(),
            br#"{"format": 7, "sealed": "in another way"}"#.to_vec(),
        ] {
            let error = open::<Value>(&bytes).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.exit(), Exit::Refused);
            assert!(error.hint().unwrap().contains("upgrade"));
        }
        let never = seal(&json!({"format": 0})).unwrap();
        assert_eq!(
            open::<Value>(&never).unwrap_err(),
            SealError::NeverUsed { format: 0 }
        );
    }

    #[test]
    fn malformed_json_names_its_line() {
        let error = open::<Value>(b"{\n  \"format\": 1,\n  \"id\": oops\n}").unwrap_err();
        assert!(
            matches!(error, SealError::Malformed { line: 3, .. }),
            "{error}"
        );
        assert_eq!(error.to_string().matches("line").count(), 1, "{error}");
        assert!(open::<Value>(b"").is_err() && open::<Value>(b"\xff\xfe").is_err());
        let deep = [b"{\"format\":1,\"x\":".to_vec(), vec![b'['; 100_000]].concat();
        assert!(matches!(
            open::<Value>(&deep),
            Err(SealError::Malformed { .. })
        ));
    }

    #[test]
    fn only_objects_with_members_are_sealed() {
        assert!(seal(&json!({})).is_err() && seal(&json!([1])).is_err());
    }
}
