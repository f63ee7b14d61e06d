//! The profiles: which format an archive has, and what making it takes.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::{ArchiveError, zst};

/// A kind of archive, as configuration, command line and manifest name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Profile {
    /// tar in multi-block xz: opens with tar and xz alone.
    Portable,
    /// zstd over pages and journal records without WiredTiger's own compression: the least time.
    Fast,
    /// The same with more effort: the least space.
    Small,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Fast, Self::Small];

    /// Its name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Fast => "fast",
            Self::Small => "small",
        }
    }

    /// The profile of that name, where this program knows it.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// The same; else why an archive of it is not opened.
    ///
    /// # Errors
    /// [`ArchiveError::UnknownProfile`].
    pub fn known(name: &str) -> Result<Self, ArchiveError> {
        Self::of_name(name).ok_or_else(|| ArchiveError::UnknownProfile {
            name: name.to_owned(),
        })
    }

    /// What an object's name ends with.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Portable => ".tar.xz",
            Self::Fast | Self::Small => ".tar.ffz",
        }
    }
}

/// An xz preset, 0 (fastest) to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u32);

impl Level {
    /// The level of `preset`, or none above 9.
    pub fn new(preset: u32) -> Option<Self> {
        (preset <= 9).then_some(Self(preset))
    }

    /// The xz preset.
    pub fn preset(self) -> u32 {
        self.0
    }

    /// Uncompressed bytes in a block. Twice the preset's dictionary, as pixz has it; half a mebibyte (level 0) is the smallest.
    ///
    /// A block holds the memory of a thread and is the least that must be read for one file.
    pub fn block_size(self) -> u64 {
        // Dictionary sizes of liblzma's presets: 256 KiB, 1, 2, 4, 4, 8, 8, 16, 32, 64 MiB.
        let dictionary_shift = match self.0 {
            0 => 18,
            1 => 20,
            2 => 21,
            3 | 4 => 22,
            5 | 6 => 23,
            7 => 24,
            8 => 25,
            _ => 26,
        };
        2 << dictionary_shift
    }

    /// Match finder and dictionary, a block of input, two of output.
    fn thread_memory(self) -> u64 {
        let mebibytes = match self.0 {
            0 => 6,
            1 => 16,
            2 => 30,
            3 => 57,
            4 => 73,
            5 | 6 => 144,
            7 => 284,
            8 => 564,
            _ => 1060,
        };
        mebibytes << 20
    }
}

impl Default for Level {
    /// 1: on WiredTiger's pages level 6 saves 5 % more and takes 4 to 7 times as long.
    fn default() -> Self {
        Self(1)
    }
}

/// How an archive is made: a profile with what can be chosen in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// [`Profile::Portable`] at a level of xz.
    Portable(Level),
    /// [`Profile::Fast`].
    Fast,
    /// [`Profile::Small`].
    Small,
}

impl Method {
    /// `profile` at `level`, or at its default; none where the profile knows no levels.
    pub fn new(profile: Profile, level: Option<Level>) -> Option<Self> {
        match (profile, level) {
            (Profile::Portable, level) => Some(Self::Portable(level.unwrap_or_default())),
            (Profile::Fast, None) => Some(Self::Fast),
            (Profile::Small, None) => Some(Self::Small),
            (Profile::Fast | Profile::Small, Some(_)) => None,
        }
    }

    /// Its profile.
    pub fn profile(self) -> Profile {
        match self {
            Self::Portable(_) => Profile::Portable,
            Self::Fast => Profile::Fast,
            Self::Small => Profile::Small,
        }
    }

    /// The most memory that packing takes, in bytes, however much data there is. Not in it: names and offsets for pixz's
    /// file index (the length of each path and 9 bytes; `portable` only), and 32 bytes for each compressed block.
    pub fn memory(self, threads: NonZeroUsize) -> u64 {
        self.base_memory()
            .saturating_add(self.thread_memory().saturating_mul(threads.get() as u64))
    }

    /// What packing takes beside its compression threads, in bytes: the program, and what waits between threads.
    pub fn base_memory(self) -> u64 {
        match self {
            Self::Portable(_) => 24 << 20,
            Self::Fast => zst::FAST.base_memory(),
            Self::Small => zst::SMALL.base_memory(),
        }
    }

    /// The most memory one more compression thread takes, in bytes.
    pub fn thread_memory(self) -> u64 {
        match self {
            Self::Portable(level) => level.thread_memory(),
            Self::Fast => zst::FAST.thread_memory(),
            Self::Small => zst::SMALL.thread_memory(),
        }
    }
}

impl Default for Method {
    fn default() -> Self {
        Self::Portable(Level::default())
    }
}
