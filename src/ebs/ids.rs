//! Names of things in AWS. Most are a prefix, a hyphen, 8 or 17 hexadecimal digits (longer ones are let through: AWS made them longer once).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// Fewest digits of an id; AWS gave such until 2016.
const FEWEST: usize = 8;
/// More than this is no id of anything.
const MOST: usize = 40;

fn is_id(text: &str, prefix: &str) -> bool {
    let digits = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('-'));
    digits.is_some_and(|digits| {
        (FEWEST..=MOST).contains(&digits.len())
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Three words at least, such as `us-gov-west-1`, the last of them a number.
fn is_region(text: &str) -> bool {
    let words: Vec<_> = text.split('-').collect();
    let (Some(number), true) = (words.last(), words.len() >= 3) else {
        return false;
    };
    let word = |word: &&str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    words.iter().all(word) && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// An id that is written as AWS writes it.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As EC2 writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                match valid(text) {
                    true => Ok(Self(text.to_owned())),
                    false => Err(InvalidId::new(text, $expected)),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id!(
    /// An instance: `i-0123456789abcdef0`.
    InstanceId,
    |text| is_id(text, "i"),
    "an instance id such as i-0123456789abcdef0"
);
id!(
    /// A volume: `vol-0123456789abcdef0`.
    VolumeId,
    |text| is_id(text, "vol"),
    "a volume id such as vol-0123456789abcdef0"
);
id!(
    /// A snapshot: `snap-0123456789abcdef0`.
    SnapshotId,
    |text| is_id(text, "snap"),
    "a snapshot id such as snap-0123456789abcdef0"
);
id!(
    /// An account of AWS: twelve digits.
    AccountId,
    is_account,
    "the number of an AWS account, twelve digits in quotes, such as \"123456789012\""
);
id!(
    /// A region: `eu-central-1`.
    Region,
    is_region,
    "a region such as eu-central-1"
);

impl VolumeId {
    /// The volume that an NVMe disk's serial number names. AWS writes the id without its hyphen (EBS user guide, "Identify the EBS
    /// device"); the field is padded with blanks.
    pub fn from_serial(serial: &str) -> Option<Self> {
        let digits = serial.trim().strip_prefix("vol")?;
        // With a hyphen it is as good.
        let digits = digits.strip_prefix('-').unwrap_or(digits);
        format!("vol-{digits}").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_of_their_own_kind() {
        assert!("vol-0123456789abcdef0".parse::<VolumeId>().is_ok());
        assert!("vol-01234567".parse::<VolumeId>().is_ok());
        for wrong in [
            "",
            "vol-",
            "vol-0123",
            "vol-0123456789ABCDEF0",
            "snap-0123456789abcdef0",
            "vol0123456789abcdef0",
            " vol-0123456789abcdef0",
        ] {
            assert!(wrong.parse::<VolumeId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn accounts_and_regions_are_what_aws_calls_so() {
        assert!("123456789012".parse::<AccountId>().is_ok());
        assert!("012345678901".parse::<AccountId>().is_ok());
        for wrong in [
            "",
            "12345678901",
            "1234567890123",
            "12345678901a",
            "1234-5678-9012",
            "all",
        ] {
            assert!(wrong.parse::<AccountId>().is_err(), "{wrong:?}");
        }
        for right in ["eu-central-1", "us-gov-west-1", "ap-southeast-10"] {
            assert!(right.parse::<Region>().is_ok(), "{right:?}");
        }
        for wrong in [
            "",
            "eu-central-1a",
            "EU-CENTRAL-1",
            "frankfurt",
            "eu--1",
            "eu-1",
            "eu central 1",
        ] {
            assert!(wrong.parse::<Region>().is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_serial_is_the_id_without_its_hyphen(digits in "[0-9a-f]{8,17}", padding in " {0,4}") {
            let id: VolumeId = format!("vol-{digits}").parse().unwrap();
            prop_assert_eq!(VolumeId::from_serial(&format!("vol{digits}{padding}")), Some(id.clone()));
            prop_assert_eq!(id.to_string().parse::<VolumeId>(), Ok(id));
        }

        #[test]
        fn other_serials_are_no_volumes(serial in "\\PC{0,24}") {
            if let Some(id) = VolumeId::from_serial(&serial) {
                prop_assert!(serial.contains(&id.as_str()["vol-".len()..]));
            }
        }
    }
}
