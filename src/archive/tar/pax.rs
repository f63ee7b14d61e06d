//! pax extended header records: `LENGTH KEY=VALUE\n`.

use std::collections::HashSet;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Records being written.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<u8>);

impl Records {
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// An extended attribute; `=` and `%` in its name are written as GNU tar writes them.
    pub(super) fn push_xattr(&mut self, name: &[u8], value: &[u8]) {
        let mut key = XATTR.to_vec();
        for byte in name {
            match byte {
                b'=' => key.extend_from_slice(b"%3D"),
                b'%' => key.extend_from_slice(b"%25"),
                other => key.push(*other),
            }
        }
        self.push(&key, value);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// What a pax header of this format can say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub path: Option<Vec<u8>>,
    pub mtime: Option<(i64, u32)>,
    pub sparse_name: Option<Vec<u8>>,
    pub sparse_size: Option<u64>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads a pax header's body. Refuses keys that this format does not have, and repeated ones.
pub(super) fn parse(body: &[u8]) -> Result<Attributes, String> {
    const BAD: &str = "a pax header is malformed";
    let mut found = Attributes::default();
    let mut version = Vec::new();
    // A list would be searched from its start for each of the 50,000 attributes that a megabyte can hold.
    let mut names = HashSet::new();
    let mut rest = body;
    while !rest.is_empty() {
        let space = rest.iter().take(8).position(|b| *b == b' ').ok_or(BAD)?;
        let length: usize = rest
            .get(..space)
            .filter(|digits| digits.iter().all(u8::is_ascii_digit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse().ok())
            .ok_or(BAD)?;
        let record = rest.get(space + 1..length).ok_or(BAD)?;
        rest = rest.get(length..).ok_or(BAD)?;
        let record = record.strip_suffix(b"\n").ok_or(BAD)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(BAD)?;
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        let fresh = match key {
            b"path" => found.path.replace(value.to_vec()).is_none(),
            b"mtime" => found.mtime.replace(parse_time(value).ok_or(BAD)?).is_none(),
            b"GNU.sparse.name" => found.sparse_name.replace(value.to_vec()).is_none(),
            b"GNU.sparse.realsize" => found
                .sparse_size
                .replace(decimal(value).ok_or(BAD)?)
                .is_none(),
            b"GNU.sparse.major" | b"GNU.sparse.minor" => {
                version.push((key.to_vec(), value.to_vec()));
                true
            }
            _ => {
                let name = key.strip_prefix(XATTR).ok_or_else(|| {
                    format!(
                        "a pax header has the unknown key {:?}",
                        String::from_utf8_lossy(key)
                    )
                })?;
                let name = xattr_name(name);
                let fresh = names.insert(name.clone());
                found.xattrs.push((name, value.to_vec()));
                fresh
            }
        };
        if !fresh {
            return Err("a pax header repeats a key".into());
        }
    }
    let sparse_1_0 = [
        (b"GNU.sparse.major".to_vec(), b"1".to_vec()),
        (b"GNU.sparse.minor".to_vec(), b"0".to_vec()),
    ];
    let sparse = found.sparse_name.is_some();
    if sparse != found.sparse_size.is_some()
        || (sparse && version != sparse_1_0)
        || (!sparse && !version.is_empty())
    {
        return Err("a pax header describes a sparse file of another format".into());
    }
    Ok(found)
}

fn xattr_name(written: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, after) = match rest.get(..3) {
            Some(b"%3D") => (b'=', rest.get(3..).unwrap_or_default()),
            Some(b"%25") => (b'%', rest.get(3..).unwrap_or_default()),
            _ => (*first, tail),
        };
        name.push(byte);
        rest = after;
    }
    name
}

/// Digits only, as written: no sign, no leading zeros.
pub(in crate::archive) fn decimal(text: &[u8]) -> Option<u64> {
    let canonical = text == b"0" || matches!(text.first(), Some(b'1'..=b'9'));
    if !canonical || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (value <= i64::MAX as u64).then_some(value)
}

/// Seconds with a fraction, as pax writes times.
pub(super) fn time(seconds: i64, nanoseconds: u32) -> String {
    let (sign, whole, fraction) = if seconds < 0 && nanoseconds > 0 {
        (
            "-",
            (seconds + 1).unsigned_abs(),
            1_000_000_000 - nanoseconds,
        )
    } else if seconds < 0 {
        ("-", seconds.unsigned_abs(), 0)
    } else {
        ("", seconds.unsigned_abs(), nanoseconds)
    };
    if fraction == 0 {
        format!("{sign}{whole}")
    } else {
        let digits = format!("{fraction:09}");
        format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

fn parse_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = decimal(whole.as_bytes()).and_then(|w| i64::try_from(w).ok())?;
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: u32 = format!("{fraction:0<9}").parse().ok()?;
    let time = match (negative, fraction) {
        (false, _) => (whole, fraction),
        (true, 0) => (-whole, 0),
        (true, _) => ((-whole).checked_sub(1)?, 1_000_000_000 - fraction),
    };
    // One writing only, so that nothing can be hidden in another.
    (self::time(time.0, time.1) == text).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_round_trip(seconds: i64, nanoseconds in 0u32..1_000_000_000) {
            prop_assume!(seconds > i64::MIN + 1);
            prop_assert_eq!(parse_time(time(seconds, nanoseconds).as_bytes()), Some((seconds, nanoseconds)));
        }

        #[test]
        fn records_round_trip(xattrs in prop::collection::btree_map("[a=%3D25.]{1,9}", prop::collection::vec(any::<u8>(), 0..130), 0..5)) {
            let xattrs: Vec<_> = xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
            let mut records = Records::default();
            for (name, value) in &xattrs {
                records.push_xattr(name, value);
            }
            prop_assert_eq!(parse(&records.into_bytes()).unwrap().xattrs, xattrs);
        }

        #[test]
        fn parsing_never_panics(body in prop::collection::vec(any::<u8>(), 0..60), text in "[0-9]{1,3} (path|mtime|GNU.sparse.(major|minor|realsize|name))=[0-9.-]{0,9}\n") {
            let _ = parse(&body);
            let _ = parse(text.as_bytes());
        }
    }
}
