//! EBS: EC2 as moto plays it, with a proxy that breaks what tests want broken, and a metadata service of our own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

#[path = "ebs/api.rs"]
mod api;
#[path = "ebs/backup.rs"]
mod backup;
#[path = "ebs/by_hand.rs"]
mod by_hand;
#[path = "ebs/check.rs"]
mod check;
#[path = "ebs/copies.rs"]
mod copies;
#[path = "ebs/faults.rs"]
mod faults;
#[path = "ebs/http.rs"]
mod http;
#[path = "ebs/metadata.rs"]
mod metadata;
#[path = "ebs/moto.rs"]
mod moto;
#[path = "ebs/policy.rs"]
mod policy;
#[path = "ebs/prune.rs"]
mod prune;
#[path = "ebs/safekeeping.rs"]
mod safekeeping;
mod support;
