//! The options of `metrics`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

/// `metrics`
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Serve them by HTTP as /metrics until asked to end; on this host alone unless an address is named [default: the configuration's]
    #[arg(long, value_name = "[ADDR:]PORT", num_args = 0..=1, conflicts_with = "textfile")]
    pub listen: Option<Option<ListenAddr>>,

    /// Write them to this file at once, for node_exporter's textfile collector [default: the configuration's]
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub textfile: Option<Option<PathBuf>>,
}

/// Where to listen: a port of this host's own address, or address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddr(pub SocketAddr);

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let on_loopback = text
            .parse()
            .map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let address = on_loopback.or_else(|_| text.parse());
        address.map(Self).map_err(|_| {
            "write a port, or address and port such as 10.0.0.7:9979 or [::1]:9979".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_host() {
        let parsed = |text: &str| text.parse::<ListenAddr>().map(|at| at.0.to_string());
        for (given, expected) in [
            ("9979", "127.0.0.1:9979"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:9979", "[::1]:9979"),
        ] {
            assert_eq!(parsed(given), Ok(expected.to_owned()));
        }
        for wrong in ["", "70000", "localhost", "localhost:1", "127.0.0.1", "::1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
