//! moto, a stand-in for AWS, in a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use super::mongod::until;

/// The process, killed when dropped.
pub struct MotoProcess {
    child: Child,
    pub address: SocketAddr,
}

impl MotoProcess {
    /// Started, and answering.
    pub async fn start() -> Self {
        let program = std::env::var_os("FREEZEFRAME_TEST_MOTO").expect(
            "FREEZEFRAME_TEST_MOTO must name moto_server; integration/s3/fetch-moto gets it",
        );
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self { child, address };
        until("moto answers", async || {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
        process
    }
}

impl Drop for MotoProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
