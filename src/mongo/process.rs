//! mongod as a process of this host: its identity, and which ports it listens on.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::open_files::has_open;
use crate::ids::MemberAddr;

/// Identity of one server process, from `hello.topologyVersion.processId`: chosen anew at every
/// start, so a lock known to be ours is ours only in the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerProcess([u8; 12]);

impl ServerProcess {
    /// From the twelve bytes of the server's ObjectId.
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ServerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ServerProcess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a server process id (24 hexadecimal digits)");
        let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
        match mongodb::bson::oid::ObjectId::parse_str(text) {
            Ok(id) if lower => Ok(Self(id.bytes())),
            _ => Err(bad()),
        }
    }
}

impl Serialize for ServerProcess {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerProcess {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A process of this host, told from a later one with the same id by when it began. What it held in memory ended with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProcess {
    /// Its process id here.
    pub pid: u32,
    /// Clock ticks from the boot to its start.
    started: u64,
}

impl HostProcess {
    /// The process with the id `pid`; none where there is none.
    pub fn of(pid: u32) -> Option<Self> {
        let started = start_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self { pid, started })
    }

    /// The one mongod of this host that calls itself `own_pid`, its process id in its own pid namespace, and where several do the one that has `db_path` open; none
    /// where there is no such.
    ///
    /// # Errors
    /// [`SearchFailed`] when the processes cannot be listed.
    pub fn of_mongod(own_pid: u32, db_path: &Path) -> Result<Option<Self>, SearchFailed> {
        let same = running()?.into_iter();
        let mut same: Vec<u32> = same
            .filter(|running| running.own_pid == own_pid)
            .map(|running| running.pid)
            .collect();
        // The first process of every container is 1.
        if same.len() > 1 {
            let lock = fs::metadata(db_path.join("mongod.lock")).ok();
            same.retain(|pid| lock.as_ref().is_some_and(|lock| has_open(*pid, lock)));
        }
        Ok(match same.as_slice() {
            [only] => Self::of(*only),
            _ => None,
        })
    }

    /// Whether it has certainly ended. What cannot be read is no proof of that.
    pub fn has_ended(&self) -> bool {
        match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(stat) => {
                start_of(&stat).is_some_and(|started| started != self.started) || is_dead(&stat)
            }
            // Where /proc hides other users' processes, a signal still tells.
            Err(_) => {
                let pid = i32::try_from(self.pid).map(Pid::from_raw);
                pid.is_ok_and(|pid| kill(pid, None) == Err(Errno::ESRCH))
            }
        }
    }
}

/// The fields of `/proc/PID/stat` from the third (the state) on; the second is a name that may hold anything.
fn after_name(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

fn start_of(stat: &str) -> Option<u64> {
    after_name(stat)?.nth(19)?.parse().ok()
}

/// A process that nobody has waited for yet is dead all the same: its memory and sockets are gone. One whose first
/// thread alone has ended looks the same and still has others.
fn is_dead(stat: &str) -> bool {
    let threads = || after_name(stat)?.nth(17)?.parse::<u32>().ok();
    let state = after_name(stat).and_then(|mut fields| fields.next());
    matches!(state, Some("Z" | "X")) && threads().is_some_and(|threads| threads <= 1)
}

/// A mongod running on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its process id here.
    pub pid: u32,
    /// Its process id in its own pid namespace, which is what it calls itself.
    pub own_pid: u32,
    /// Where it can be reached, the likeliest address first; empty when it listens nowhere we reach.
    pub listens: Vec<MemberAddr>,
    /// Only root, or the user it runs as, may see where it listens.
    pub concealed: bool,
}

/// The processes of this host cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot look for mongod processes: {0}")]
pub struct SearchFailed(pub(super) String);

impl crate::error::Explain for SearchFailed {
    fn hint(&self) -> Option<String> {
        Some("name the members in [mongodb] members".into())
    }
}

/// The mongod processes of this host and where each listens, ordered by process id.
///
/// Reading another user's process needs root; one that cannot be read has no addresses.
///
/// # Errors
/// [`SearchFailed`] when the processes cannot be listed at all.
pub fn running() -> Result<Vec<Running>, SearchFailed> {
    let mut system = System::new().map_err(|error| SearchFailed(error.to_string()))?;
    let what = ProcessRefreshKind::nothing()
        .with_exe(UpdateKind::Always)
        .without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    let mut found: Vec<Running> = system
        .processes()
        .values()
        .filter(|process| is_mongod(process.exe(), &process.name().to_string_lossy()))
        .map(|process| {
            let pid = process.pid().as_u32();
            Running {
                pid,
                own_pid: own_pid(pid).unwrap_or(pid),
                listens: listens(pid),
                concealed: concealed(pid),
            }
        })
        .collect();
    found.sort_by_key(|running| running.pid);
    Ok(found)
}

/// A replaced binary shows as "mongod (deleted)" until the server restarts.
fn is_mongod(exe: Option<&Path>, name: &str) -> bool {
    let file = exe
        .and_then(Path::file_name)
        .map(|file| file.to_string_lossy());
    match file {
        Some(file) => file == "mongod" || file == "mongod (deleted)",
        None => name == "mongod",
    }
}

fn own_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

/// Where the process listens, in a network namespace that is ours.
fn listens(pid: u32) -> Vec<MemberAddr> {
    // In another network namespace the same port number leads to somebody else.
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
    if namespace(&pid.to_string()) != namespace("self") {
        return Vec::new();
    }
    let sockets = sockets(pid);
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}"));
    let addresses = ["tcp", "tcp6"]
        .into_iter()
        .filter_map(|name| table(name).ok())
        .flat_map(|table| listening(&table))
        .filter(|(inode, _)| sockets.contains(inode))
        .map(|(_, address)| address);
    reachable(addresses)
}

/// Whether we may not see what the process has open.
fn concealed(pid: u32) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
    descriptors.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The socket inodes a process has open.
fn sockets(pid: u32) -> HashSet<u64> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            let target = target.to_str()?;
            let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse().ok()
        })
        .collect()
}

/// The listening sockets of a `/proc/net/tcp` or `tcp6` table: inode and address.
pub(crate) fn listening(table: &str) -> Vec<(u64, SocketAddr)> {
    const LISTEN: &str = "0A";
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            if *state != LISTEN {
                return None;
            }
            Some((inode.parse().ok()?, kernel_address(address)?))
        })
        .collect()
}

/// An address as the kernel prints it: 32-bit words in host order, then the port.
fn kernel_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if !host.is_ascii() {
        return None;
    }
    let words: Option<Vec<[u8; 4]>> = host
        .as_bytes()
        .chunks(8)
        .map(|word| {
            let word = std::str::from_utf8(word).ok()?;
            Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
        })
        .collect();
    let ip = match words?.as_slice() {
        [v4] => IpAddr::V4(Ipv4Addr::from(*v4)),
        v6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(v6.concat()).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

/// One member address for each address listened on: "any" is reached by loopback, and loopback comes first.
pub(crate) fn reachable(addresses: impl Iterator<Item = SocketAddr>) -> Vec<MemberAddr> {
    let ordered: BTreeSet<(bool, IpAddr, u16)> = addresses
        .map(|address| {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                other => other,
            };
            (!ip.is_loopback(), ip, address.port())
        })
        .collect();
    ordered
        .into_iter()
        .map(|(_, ip, port)| MemberAddr {
            host: ip.to_string(),
            port,
        })
        .collect()
}

/// Why the data directory a server names is not one of this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHere {
    /// The path cannot be resolved.
    #[error("cannot find dbPath {path}: {detail}", path = .path.display())]
    Unreadable {
        /// As the server names it.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The directory is another server's, or nobody's: its mongod.lock does not hold this process id.
    #[error("{path} is not the data directory of process {pid}: mongod.lock says {found:?}", path = .path.display())]
    AnotherServer {
        /// The resolved path.
        path: PathBuf,
        /// The server's process id.
        pid: u32,
        /// What the file holds.
        found: String,
    },
}

/// The data directory of server `pid` as an absolute path without symlinks, proven by `mongod.lock`.
///
/// `pid` and `db_path` are what the server says ([`super::MemberFacts`]); a relative path is
/// relative to the server's working directory.
///
/// # Errors
/// [`NotHere`] when it does not exist here or belongs to another process: the server is not on this host.
pub fn data_directory(pid: u32, db_path: &Path) -> Result<PathBuf, NotHere> {
    let unreadable = |error: std::io::Error| NotHere::Unreadable {
        path: db_path.to_owned(),
        detail: error.to_string(),
    };
    let base = PathBuf::from(format!("/proc/{pid}/cwd"));
    let path = fs::canonicalize(base.join(db_path)).map_err(unreadable)?;
    let found = lock_file(&path.join("mongod.lock")).map_err(unreadable)?;
    if found.trim() == pid.to_string() {
        Ok(path)
    } else {
        Err(NotHere::AnotherServer {
            path,
            pid,
            found: found.trim().to_owned(),
        })
    }
}

/// Whether a mongod has the directory open: it holds a lock (flock) on `mongod.lock`, which a copy or a snapshot of it does not.
///
/// # Errors
/// What the file brings, where there is one.
pub fn is_open(db_path: &Path) -> io::Result<bool> {
    // Not waiting, should it be a pipe.
    let opening = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(db_path.join("mongod.lock"));
    let file = match opening {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_held_for_a_moment) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// What a `mongod.lock` says. It belongs to mongod's user, who may have put anything in its place: a pipe is not waited
/// for, and of a long file only the beginning is read.
fn lock_file(path: &Path) -> std::io::Result<String> {
    const LONGEST: u64 = 64;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_socket_table_gives_its_listeners() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:6989 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 4711 1 0 100 0 0 10 0\n\
            \x20  1: 0100007F:6989 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000   105        0 4712 1 0 20 4 30 10 -1\n\
            \x20  2: 00000000:6989 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 4713 1 0 100 0 0 10 0\n";
        let expected = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(
            listening(table),
            [
                (4711, expected("127.0.0.1:27017")),
                (4713, expected("0.0.0.0:27017"))
            ]
        );
        let v6 = "00000000000000000000000001000000:6989";
        assert_eq!(kernel_address(v6), Some(expected("[::1]:27017")));
    }

    #[test]
    fn any_address_is_reached_by_loopback_and_bound_ones_are_kept() {
        let of = |list: &[&str]| {
            reachable(list.iter().map(|text| text.parse().unwrap()))
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&["0.0.0.0:27017"]), ["127.0.0.1:27017"]);
        assert_eq!(
            of(&["10.1.2.3:27017", "127.0.0.1:27017"]),
            ["127.0.0.1:27017", "10.1.2.3:27017"]
        );
        assert_eq!(of(&["10.1.2.3:27017"]), ["10.1.2.3:27017"]);
        assert_eq!(of(&["[::]:27017"]), ["[::1]:27017"]);
    }

    #[test]
    fn a_process_that_has_ended_is_known_to_have() {
        let myself = HostProcess::of(std::process::id()).unwrap();
        assert!(!myself.has_ended());
        // Another process that got the same id later.
        let former = HostProcess {
            started: myself.started + 1,
            ..myself
        };
        assert!(former.has_ended());
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let process = HostProcess::of(child.id()).unwrap();
        assert!(!process.has_ended());
        child.kill().unwrap();
        while !process.has_ended() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(process.has_ended());
        assert_eq!(HostProcess::of(0), None);
    }

    #[test]
    fn only_mongod_is_mongod() {
        for (exe, name, expected) in [
            (Some("/usr/bin/mongod"), "mongod", true),
            (Some("/usr/bin/mongod (deleted)"), "mongod", true),
            (Some("/usr/bin/mongodump"), "mongodump", false),
            (Some("/usr/bin/vim"), "mongod", false),
            (None, "mongod", true),
        ] {
            assert_eq!(is_mongod(exe.map(Path::new), name), expected, "{exe:?}");
        }
    }

    proptest! {
        #[test]
        fn a_server_process_round_trips(bytes: [u8; 12]) {
            let process = ServerProcess::from_bytes(bytes);
            prop_assert_eq!(process.to_string().parse::<ServerProcess>().unwrap(), process);
        }

        #[test]
        fn socket_tables_never_panic(text in "(.{0,40}\n){0,5}", address in ".{0,40}:[0-9A-F]{0,5}") {
            let _ = listening(&text);
            let _ = kernel_address(&address);
        }
    }
}
