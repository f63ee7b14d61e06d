//! How fast members are archived: what earlier backups in the store show, else a cautious guess.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Aim;
use crate::archive::{Method, Profile};
use crate::backup::Environment;
use crate::backup::plan::PicturePlan;
use crate::catalog;
use crate::catalog::summary::{SetState, SetSummary};
use crate::ids::{MemberAddr, ShardName};
use crate::manifest::{ArchiveRecord, MadeWith, Manifest};

/// Bytes a second that one thread is expected to archive until a backup has shown the real rate: on the slow
/// side, because too long an expectation only asks for more snapshot space.
const RATE_PER_THREAD: u64 = 10 << 20;
/// How many times slower the levels above 2 are (doc/benchmarks.md).
const SLOWER_ABOVE_2: u64 = 5;
/// How many times faster the profile `fast` is at the least: a guess on the slow side.
const FASTER_BY_FAST: u64 = 5;
/// How many times slower the profile `small` is at the most.
const SLOWER_BY_SMALL: u64 = 2;
/// How many times the guess an earlier backup's rate may be and still be believed.
const FASTER_AT_MOST: u64 = 3;
/// An archive of less than this part of what is to be archived now tells nothing about it: its time was spent on other things.
const LEAST_PART: u64 = 4;
/// Earlier backups that are looked through for a member.
const BACKUPS_READ: usize = 5;

/// What is known about the rate.
pub(super) struct Pace {
    guess: u64,
    /// The profile in force: what archives of another took tells nothing of it.
    profile: Profile,
    /// How archives are made now.
    settings: MadeWith,
    /// Earlier backups, newest first.
    earlier: Vec<Manifest>,
}

impl Pace {
    /// Reads earlier backups. A store that cannot be read is told of elsewhere, and leaves the guess.
    pub(super) async fn learn(env: &Environment, aim: Aim) -> Self {
        let (settings, method) = (env.config.made_with(), env.config.archive.method());
        let store = env.store.as_ref();
        let sets = match aim {
            Aim::Backup => catalog::list(store).await.unwrap_or_default(),
            Aim::Keep(_) => Vec::new(),
        };
        let complete = |set: &&SetSummary| set.state == SetState::Complete;
        let mut earlier = Vec::new();
        for set in sets.iter().rev().filter(complete).take(BACKUPS_READ) {
            earlier.extend(catalog::load(store, set.id).await.ok());
        }
        Self {
            guess: guess(method, settings),
            profile: method.profile(),
            settings,
            earlier,
        }
    }

    /// Bytes a second to reckon with. Never far above the guess: a small backup is mostly zeros and goes much faster
    /// than data does.
    pub(super) fn to_expect(&self) -> u64 {
        let last = self.earlier.first();
        let archives = last.map_or(&[][..], |manifest| &manifest.members);
        let archives = archives.iter().map(|member| &member.archive);
        let archives = archives.filter(|archive| archive.profile == self.profile.name());
        match rate(archives) {
            Some(rate) => rate.min(self.guess.saturating_mul(FASTER_AT_MOST)),
            None => self.guess,
        }
    }

    /// Bytes that the last backup of just these replica sets took in the store.
    pub(super) fn stored(&self, shards: &BTreeSet<ShardName>) -> Option<u64> {
        let of_these = |manifest: &&Manifest| {
            let all = manifest.members.iter().map(|member| member.shard.clone());
            all.collect::<BTreeSet<_>>() == *shards
        };
        let last = self.earlier.iter().find(of_these)?;
        Some(last.members.iter().map(|member| member.archive.size).sum())
    }

    /// How long `bytes` of this very member, holes included, will take with its files read where they lie, where an earlier
    /// backup of about as much of it, made so and by the same settings, shows that. Holes count on both sides: what is a hole to the archive is not told by what the files occupy.
    pub(super) fn known(
        &self,
        shard: &ShardName,
        member: &MemberAddr,
        bytes: u64,
    ) -> Option<Duration> {
        let archive = self
            .earlier
            .iter()
            .filter(|manifest| manifest.window.provider == PicturePlan::Hold.provider())
            .flat_map(|manifest| &manifest.members)
            .filter(|archived| archived.shard == *shard && archived.address == *member)
            .map(|archived| &archived.archive)
            .filter(|archive| archive.profile == self.profile.name())
            .find(|archive| archive.made_with == Some(self.settings))?;
        let (before, micros) = (archive.data_size, archive.pack_us);
        if before.saturating_mul(LEAST_PART) < bytes || before == 0 || micros == 0 {
            return None;
        }
        let micros = u128::from(micros) * u128::from(bytes) / u128::from(before);
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        Some(Duration::from_micros(micros))
    }
}

/// Bytes a second to reckon with as long as nothing was measured; no more than the line to the store may carry, since
/// nobody knows how much smaller the data gets.
fn guess(method: Method, settings: MadeWith) -> u64 {
    let rate = RATE_PER_THREAD.saturating_mul(settings.threads);
    let rate = match method {
        Method::Portable(level) if level.preset() > 2 => rate / SLOWER_ABOVE_2,
        Method::Portable(_) => rate,
        Method::Fast => rate.saturating_mul(FASTER_BY_FAST),
        Method::Small => rate / SLOWER_BY_SMALL,
    };
    rate.min(settings.upload_limit.unwrap_or(u64::MAX)).max(1)
}

/// Bytes a second at which `archives` were made together; none where that was not measured.
fn rate<'a>(archives: impl Iterator<Item = &'a ArchiveRecord>) -> Option<u64> {
    let (bytes, micros) = archives.fold((0u128, 0u128), |(bytes, micros), archive| {
        (
            bytes + u128::from(archive.tar_size),
            micros + u128::from(archive.pack_us),
        )
    });
    let rate = bytes.saturating_mul(1_000_000).checked_div(micros)?;
    u64::try_from(rate).ok().filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Level;
    use crate::catalog::sample;

    #[test]
    fn a_narrow_line_is_reckoned_with() {
        let guess = |method, upload_limit| {
            let settings = MadeWith {
                level: None,
                threads: 8,
                upload_limit,
            };
            guess(method, settings)
        };
        let portable = |level| Method::Portable(Level::new(level).unwrap());
        assert_eq!(guess(portable(1), None), 80 << 20);
        assert_eq!(guess(portable(6), None), 16 << 20);
        assert_eq!(guess(Method::Fast, None), 400 << 20);
        assert_eq!(guess(portable(1), Some(1 << 20)), 1 << 20);
        assert_eq!(guess(Method::Fast, Some(1 << 20)), 1 << 20);
    }

    #[test]
    fn only_the_same_settings_tell_how_long_it_takes() {
        let settings = MadeWith {
            level: Some(1),
            threads: 4,
            upload_limit: Some(10 << 20),
        };
        let made = |provider: &str, made_with| {
            let mut manifest = sample::manifest();
            manifest.window.provider = provider.into();
            let archive = &mut manifest.members[0].archive;
            (archive.data_size, archive.pack_us) = (40 << 20, 4_000_000);
            archive.made_with = made_with;
            manifest
        };
        let known = |earlier: Vec<Manifest>| {
            let member = sample::member("rs0");
            let pace = Pace {
                guess: 1 << 20,
                profile: Profile::Portable,
                settings,
                earlier,
            };
            pace.known(&member.shard, &member.address, 40 << 20)
        };
        let others = [
            made("hold", None),
            made("lvm", Some(settings)),
            made(
                "hold",
                Some(MadeWith {
                    level: Some(2),
                    ..settings
                }),
            ),
            made(
                "hold",
                Some(MadeWith {
                    threads: 5,
                    ..settings
                }),
            ),
            made(
                "hold",
                Some(MadeWith {
                    upload_limit: None,
                    ..settings
                }),
            ),
        ];
        for other in &others {
            assert_eq!(known(vec![other.clone()]), None, "{:?}", other.window);
        }
        // One behind them does.
        let same = made("hold", Some(settings));
        let all = others.into_iter().chain([same]).collect();
        assert_eq!(known(all), Some(Duration::from_secs(4)));
    }

    #[test]
    fn only_the_same_member_and_about_as_much_of_it_tell_how_long_it_takes() {
        let mut manifest = sample::manifest();
        manifest.window.provider = "hold".into();
        let member = &mut manifest.members[0];
        member.archive.made_with = Some(MadeWith::default());
        (member.archive.data_size, member.archive.tar_size) = (40 << 20, 40 << 20);
        member.archive.pack_us = 4_000_000;
        let (shard, address) = (member.shard.clone(), member.address.clone());
        let mut pace = Pace {
            guess: 1 << 20,
            profile: Profile::Portable,
            settings: MadeWith::default(),
            earlier: vec![manifest],
        };
        let known = |pace: &Pace, bytes| pace.known(&shard, &address, bytes);
        assert_eq!(known(&pace, 40 << 20), Some(Duration::from_secs(4)));
        assert_eq!(known(&pace, 160 << 20), Some(Duration::from_secs(16)));
        assert_eq!(known(&pace, (160 << 20) + 1), None);
        let elsewhere = "127.0.0.1:1".parse().unwrap();
        assert_eq!(pace.known(&shard, &elsewhere, 40 << 20), None);
        assert_eq!(pace.known(&sample::shard("rs9"), &address, 40 << 20), None);
        assert!(pace.to_expect() > 1 << 20);
        pace.profile = Profile::Fast;
        assert_eq!(known(&pace, 40 << 20), None);
        assert_eq!(pace.to_expect(), 1 << 20);
    }
}
