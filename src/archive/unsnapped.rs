//! What packing found of WiredTiger's own compression, as it is reported.

use std::ops::AddAssign;

use serde::Serialize;

use super::unsnap::{Encoder, FileKind, Kind, Method, Statistics};

/// Pages and journal records whose own compression was looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Unsnapped {
    /// Those that say they are compressed.
    pub tried: u64,
    /// Those of them that are stored without their own compression, since it can be done again to the bit.
    pub proven: u64,
    /// Bytes that the latter take in their files.
    pub proven_bytes: u64,
    /// Of collections.
    pub collections: UnsnappedOfKind,
    /// Of indexes.
    pub indexes: UnsnappedOfKind,
    /// Of the history store.
    pub history_store: UnsnappedOfKind,
    /// Of other tables: WiredTiger's metadata, MongoDB's catalog and sizes.
    pub other_tables: UnsnappedOfKind,
    /// Records of the journal.
    pub journal: UnsnappedOfKind,
}

/// The same of one kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct UnsnappedOfKind {
    /// Those that say they are compressed.
    pub tried: u64,
    /// Those of them that are stored without their own compression.
    pub proven: Proven,
}

/// How many, by the library and its versions that make these bytes. What several make counts for the one that made what came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Proven {
    /// Up to 1.1.8.
    pub snappy_to_1_1_8: u64,
    /// 1.1.9.
    pub snappy_1_1_9: u64,
    /// From 1.1.10 on a processor that computes CRC32C.
    pub snappy_from_1_1_10_crc32c: u64,
    /// From 1.1.10 on another.
    pub snappy_from_1_1_10: u64,
    /// zlib, which the profile `small` alone tries.
    pub zlib: u64,
}

impl Proven {
    /// How many each version makes, by the name a message calls it.
    pub fn versions(&self) -> [(&'static str, u64); 5] {
        [
            ("snappy to 1.1.8", self.snappy_to_1_1_8),
            ("snappy 1.1.9", self.snappy_1_1_9),
            (
                "snappy from 1.1.10 with CRC32C",
                self.snappy_from_1_1_10_crc32c,
            ),
            ("snappy from 1.1.10", self.snappy_from_1_1_10),
            ("zlib", self.zlib),
        ]
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.versions().iter().map(|(_, count)| count).sum()
    }

    fn of(&mut self, method: Method) -> &mut u64 {
        match method {
            Method::Snappy(Encoder::Classic) => &mut self.snappy_to_1_1_8,
            Method::Snappy(Encoder::Multiplied14) => &mut self.snappy_1_1_9,
            Method::Snappy(Encoder::Crc) => &mut self.snappy_from_1_1_10_crc32c,
            Method::Snappy(Encoder::Multiplied) => &mut self.snappy_from_1_1_10,
            Method::Zlib => &mut self.zlib,
        }
    }
}

impl Unsnapped {
    /// The kinds of files that have pages or records, by the name a message calls them.
    pub fn kinds(&self) -> [(&'static str, &UnsnappedOfKind); 5] {
        [
            ("collections", &self.collections),
            ("indexes", &self.indexes),
            ("history store", &self.history_store),
            ("other tables", &self.other_tables),
            ("journal", &self.journal),
        ]
    }

    pub(super) fn add(&mut self, kind: FileKind, found: &Statistics) {
        let total = found.total();
        self.tried += found.compressed;
        self.proven += total.units;
        self.proven_bytes += total.plain;
        let of_kind = match kind {
            FileKind::Collection => &mut self.collections,
            FileKind::Index => &mut self.indexes,
            FileKind::History => &mut self.history_store,
            FileKind::Data => &mut self.other_tables,
            FileKind::Journal => &mut self.journal,
            FileKind::Other => return,
        };
        of_kind.tried += found.compressed;
        for (kind, tally) in Kind::all().zip(&found.proven) {
            *of_kind.proven.of(kind.method) += tally.units;
        }
    }
}

impl AddAssign for Unsnapped {
    fn add_assign(&mut self, other: Self) {
        self.tried += other.tried;
        self.proven += other.proven;
        self.proven_bytes += other.proven_bytes;
        self.collections += other.collections;
        self.indexes += other.indexes;
        self.history_store += other.history_store;
        self.other_tables += other.other_tables;
        self.journal += other.journal;
    }
}

impl AddAssign for UnsnappedOfKind {
    fn add_assign(&mut self, other: Self) {
        self.tried += other.tried;
        for method in Method::ALL {
            let Self { mut proven, .. } = other;
            *self.proven.of(method) += *proven.of(method);
        }
    }
}
