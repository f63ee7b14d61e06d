//! unsnap: pieces of a tar stream without WiredTiger's own compression, and back to the very same bytes.
//!
//! WiredTiger compresses pages and journal records with snappy or zlib, so a later compressor sees noise. [`Forward`] finds them,
//! proves for each that compressing its content again gives the same bytes, and stores the content instead. What does not come
//! back bit by bit stays as it is. [`Inverse`] undoes it. The transformed block is described in `doc/format.md`, part 3.
//!
//! Everything here is a function of bytes: no files, no threads, no compressor behind it. The result for a block depends on
//! that block alone, not on what was seen before it.

mod control;
mod cut;
mod forward;
mod inverse;
mod shape;
mod snappy;
mod walk;
mod zlib;

#[cfg(test)]
mod measure;
#[cfg(test)]
mod tests;

pub(crate) use control::split_payload;
pub(crate) use cut::cut;
pub(crate) use forward::Forward;
pub(crate) use inverse::Inverse;
#[cfg(test)]
pub(crate) use measure::streams;
pub(crate) use shape::Shape;
pub(crate) use snappy::Encoder;

/// The longest plain block. A reader refuses a longer one before it allocates anything.
pub(crate) const MAX_PLAIN: usize = 128 << 20;
/// The longest content of a transformed block. Containers allow less, and refuse more before they allocate anything.
pub(crate) const MAX_CONTENT: usize = 256 << 20;
/// How much longer than its plain block the content of any block may be: what a block without a single page takes.
pub(crate) const SMALLEST_SURPLUS: usize = 64;

/// What a file holds, as far as its name tells. It says what is looked for; nothing is believed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Pages of a collection: `collection-*.wt`.
    Collection,
    /// Pages of an index: `index-*.wt`.
    Index,
    /// Pages of the history store: `WiredTigerHS.wt`.
    History,
    /// Pages of something else: `*.wt`.
    Data,
    /// Records of WiredTiger's log: `WiredTigerLog.*`.
    Journal,
    /// Nothing to look for.
    Other,
}

impl FileKind {
    /// What a file of that name holds. The name is the last component of the path.
    pub(crate) fn of(name: &[u8]) -> Self {
        if name.starts_with(b"WiredTigerLog.") {
            Self::Journal
        } else if !name.ends_with(b".wt") {
            Self::Other
        } else if name.starts_with(b"collection-") {
            Self::Collection
        } else if name.starts_with(b"index-") {
            Self::Index
        } else if name == b"WiredTigerHS.wt" {
            Self::History
        } else {
            Self::Data
        }
    }
}

/// A piece of a plain block that is content of a file. Spans come in the order of the block and do not overlap; what no
/// span covers (tar headers, padding) is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Where it begins in the block.
    pub start: usize,
    /// Its length in bytes.
    pub length: usize,
    /// Where its first byte lies in the file.
    pub file_offset: u64,
    /// What the file holds.
    pub kind: FileKind,
}

/// What a unit was compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// A version of snappy.
    Snappy(Encoder),
    /// zlib's deflate at MongoDB's level.
    Zlib,
}

impl Method {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = {
        let [first, second, third, fourth] = Encoder::ALL;
        [
            Self::Snappy(first),
            Self::Snappy(second),
            Self::Snappy(third),
            Self::Snappy(fourth),
            Self::Zlib,
        ]
    };

    /// Its number in the format.
    fn number(self) -> u8 {
        match self {
            Self::Snappy(encoder) => encoder as u8,
            Self::Zlib => 5,
        }
    }

    /// Bytes of the stream's length, between head and stream.
    fn prefix(self) -> usize {
        match self {
            Self::Snappy(_) => shape::PREFIX,
            Self::Zlib => 0,
        }
    }
}

/// What a unit is, and what makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Page or record.
    pub shape: Shape,
    /// What it was compressed with.
    pub method: Method,
}

impl Kind {
    fn new(shape: Shape, method: Method) -> Self {
        Self { shape, method }
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of = |shape| Method::ALL.map(|method| Self::new(shape, method));
        Shape::ALL.into_iter().flat_map(of)
    }

    /// Its number in the format.
    pub(crate) fn number(self) -> u8 {
        self.shape as u8 | self.method.number()
    }

    /// The kind of that number.
    fn of(number: u8) -> Option<Self> {
        Self::all().find(|kind| kind.number() == number)
    }
}

/// What became of the pages and records that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Statistics {
    /// Pages and records that say they are compressed, with whatever.
    pub compressed: u64,
    /// Those of them that hold a stream by all appearance, and were decompressed.
    pub tried: u64,
    /// Those that are stored decompressed, by their kind, in the order of [`Kind::all`].
    pub proven: [Tally; 2 * Method::ALL.len()],
}

/// Units of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// How many.
    pub units: u64,
    /// Bytes they take in the plain block.
    pub plain: u64,
    /// Bytes of what they hold, decompressed.
    pub content: u64,
}

impl Statistics {
    fn add(&mut self, kind: Kind, plain: u64, content: u64) {
        if let Some((_, tally)) = Kind::all()
            .zip(&mut self.proven)
            .find(|(known, _)| *known == kind)
        {
            tally.units += 1;
            tally.plain += plain;
            tally.content += content;
        }
    }

    /// All kinds together.
    pub(crate) fn total(&self) -> Tally {
        self.proven.iter().fold(Tally::default(), |mut all, one| {
            all += *one;
            all
        })
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.units += other.units;
        self.plain += other.plain;
        self.content += other.content;
    }
}

impl std::ops::AddAssign<&Self> for Statistics {
    fn add_assign(&mut self, other: &Self) {
        self.compressed += other.compressed;
        self.tried += other.tried;
        for (all, one) in self.proven.iter_mut().zip(&other.proven) {
            *all += *one;
        }
    }
}
