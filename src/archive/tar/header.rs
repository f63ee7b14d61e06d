//! The 512-byte header, written and read.

use super::super::extents;
use super::super::path::ArchivePath;
use super::pax;
use super::{Entry, padding};
use crate::manifest::EntryKind;

/// Size of a tar block.
pub(in crate::archive) const BLOCK: usize = 512;

const NAME: usize = 100;
const PREFIX: usize = 155;
/// Eleven octal digits.
const OCTAL_MAX: u64 = 0o77_777_777_777;

/// Everything in front of an entry's data: pax header if one is needed, header, sparse map.
///
/// Fails with the reason where the format cannot hold the entry.
pub(in crate::archive) fn headers(entry: &Entry) -> Result<Vec<u8>, String> {
    let mut name = entry.path.as_bytes().to_vec();
    if entry.kind == EntryKind::Directory {
        name.push(b'/');
    }
    let mut records = pax::Records::default();
    let (prefix, short) = match &entry.segments {
        Some(_) => {
            records.push(b"GNU.sparse.major", b"1");
            records.push(b"GNU.sparse.minor", b"0");
            records.push(b"GNU.sparse.name", &name);
            records.push(b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
            // What a tar that knows no sparse files would call it.
            (&b"GNUSparseFile.0"[..], cut(entry.path.split().1))
        }
        None => split_name(&name).unwrap_or_else(|| {
            records.push(b"path", &name);
            (&b""[..], cut(&name))
        }),
    };
    let plain_mtime = u64::try_from(entry.mtime)
        .ok()
        .filter(|m| entry.mtime_ns == 0 && *m <= OCTAL_MAX);
    if plain_mtime.is_none() {
        records.push(b"mtime", pax::time(entry.mtime, entry.mtime_ns).as_bytes());
    }
    for (key, value) in &entry.xattrs {
        records.push_xattr(key, value);
    }

    let map = entry
        .segments
        .as_deref()
        .map(extents::map_text)
        .unwrap_or_default();
    let stored = entry.data_size() + map.len() as u64;
    let mut out = Vec::with_capacity(3 * BLOCK + map.len());
    let records = records.into_bytes();
    if !records.is_empty() {
        if records.len() as u64 > super::LONGEST_PAX {
            return Err("its extended attributes are longer than 1 MiB".into());
        }
        let (_, base) = entry.path.split();
        let pax_header = Header {
            typeflag: b'x',
            prefix: b"PaxHeaders",
            name: cut(base),
            size: records.len() as u64,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: plain_mtime.unwrap_or(0),
        };
        out.extend_from_slice(&pax_header.to_bytes());
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64), 0);
    }
    let header = Header {
        typeflag: if entry.kind == EntryKind::Directory {
            b'5'
        } else {
            b'0'
        },
        prefix,
        name: short,
        size: stored,
        mode: entry.mode,
        uid: entry.uid.into(),
        gid: entry.gid.into(),
        mtime: plain_mtime
            .or_else(|| u64::try_from(entry.mtime).ok())
            .unwrap_or(0)
            .min(OCTAL_MAX),
    };
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(&map);
    Ok(out)
}

fn cut(name: &[u8]) -> &[u8] {
    name.get(..NAME).unwrap_or(name)
}

/// `name` divided between the prefix and the name field, if it fits.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME {
        return Some((b"", name));
    }
    let least = name.len().checked_sub(NAME + 1)?;
    // The slash between the two is not stored; a directory's last one belongs to the name.
    let slash = (least..name.len() - 1).find(|i| name.get(*i) == Some(&b'/'))?;
    (slash > 0 && slash <= PREFIX)
        .then(|| (name.get(..slash), name.get(slash + 1..)))
        .and_then(|(prefix, name)| Some((prefix?, name?)))
}

/// A header's fields as the stream has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header<'a> {
    pub typeflag: u8,
    pub prefix: &'a [u8],
    pub name: &'a [u8],
    pub size: u64,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
}

impl<'a> Header<'a> {
    fn to_bytes(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in block.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(0, self.name);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, &number::<8>(self.uid));
        put(116, &number::<8>(self.gid));
        put(124, &number::<12>(self.size));
        put(136, &number::<12>(self.mtime));
        put(148, b"        ");
        put(156, &[self.typeflag]);
        put(257, b"ustar\x0000");
        put(329, b"0000000\x000000000\0");
        put(345, self.prefix);
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        for (to, from) in block
            .iter_mut()
            .skip(148)
            .zip(format!("{sum:06o}\0 ").bytes())
        {
            *to = from;
        }
        block
    }

    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Self, &'static str> {
        let field = |at: usize, length: usize| block.get(at..at + length).unwrap_or_default();
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(i, b)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u64::from(*b)
                }
            })
            .sum();
        if parse_number(field(148, 8))? != sum {
            return Err("a header does not match its checksum");
        }
        if field(257, 8) != b"ustar\x0000" {
            return Err("a header is of another tar format");
        }
        let typeflag = *field(156, 1).first().unwrap_or(&0);
        Ok(Self {
            typeflag,
            prefix: text(field(345, PREFIX)),
            name: text(field(0, NAME)),
            size: parse_number(field(124, 12))?,
            mode: u32::try_from(parse_number(field(100, 8))?)
                .ok()
                .filter(|m| *m <= 0o7777)
                .ok_or("a header has an impossible mode")?,
            uid: parse_number(field(108, 8))?,
            gid: parse_number(field(116, 8))?,
            mtime: parse_number(field(136, 12))?,
        })
    }

    /// Prefix and name put together.
    pub(super) fn full_name(&self) -> Vec<u8> {
        if self.prefix.is_empty() {
            self.name.to_vec()
        } else {
            [self.prefix, b"/", self.name].concat()
        }
    }
}

/// A path as the stream has it: a directory's ends in a slash.
pub(super) fn entry_path(
    name: &[u8],
    kind: EntryKind,
) -> Result<ArchivePath, super::super::ArchiveError> {
    let bare = match kind {
        EntryKind::Directory => name.strip_suffix(b"/").unwrap_or(name),
        EntryKind::File => name,
    };
    ArchivePath::new(bare)
}

/// Octal digits and a NUL; base 256 where they do not suffice, as GNU tar, libarchive and Python read it.
fn number<const N: usize>(value: u64) -> [u8; N] {
    let mut out = [0; N];
    let octal = format!("{value:0width$o}", width = N - 1);
    if octal.len() < N {
        for (to, from) in out.iter_mut().zip(octal.bytes()) {
            *to = from;
        }
    } else {
        for (to, from) in out
            .iter_mut()
            .rev()
            .zip(value.to_be_bytes().into_iter().rev())
        {
            *to = from;
        }
        if let Some(first) = out.first_mut() {
            *first |= 0x80;
        }
    }
    out
}

fn parse_number(field: &[u8]) -> Result<u64, &'static str> {
    const BAD: &str = "a header holds a malformed number";
    match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            let start = u64::from(first & 0x7F);
            let value = rest.iter().try_fold(start, |value, byte| {
                value.checked_mul(256).map(|v| v | u64::from(*byte))
            });
            value.filter(|v| *v <= i64::MAX as u64).ok_or(BAD)
        }
        _ => {
            let end = field
                .iter()
                .position(|b| *b == 0 || *b == b' ')
                .ok_or(BAD)?;
            let (digits, rest) = field.split_at(end);
            if digits.is_empty() || rest.iter().any(|b| *b != 0 && *b != b' ') {
                return Err(BAD);
            }
            digits.iter().try_fold(0, |value, byte| match byte {
                b'0'..=b'7' => Ok(value * 8 + u64::from(byte - b'0')),
                _ => Err(BAD),
            })
        }
    }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}
