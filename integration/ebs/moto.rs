//! moto in a process of its own, with an instance that has a boot volume and data volumes.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::{BehaviorVersion, Region};
use aws_sdk_ec2::types::{Filter, InstanceType};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::TrustStore;
use freezeframe::config::Period;
use freezeframe::config::ebs::EbsConfig;
use freezeframe::ebs::connect::Access;
use freezeframe::ebs::ids::{InstanceId, VolumeId};

use crate::http::{Reply, Request, Server};
use crate::support::moto::MotoProcess;

pub const REGION: &str = "eu-central-1";
/// Where copies go.
pub const ABROAD: &str = "eu-west-1";

/// EC2, and a proxy before it.
pub struct Moto {
    _process: MotoProcess,
    pub proxy: Server,
    pub client: Client,
    /// The same in the region of copies.
    pub abroad: Client,
    pub instance: InstanceId,
    /// Data volumes, in the order of their names.
    pub volumes: Vec<VolumeId>,
}

impl Moto {
    /// With an instance that has this many data volumes besides its boot volume.
    pub async fn with_volumes(count: usize) -> Self {
        let process = MotoProcess::start().await;
        let address = process.address;
        let url = format!("http://{address}");
        let (client, abroad) = (client(&url, REGION), client(&url, ABROAD));
        let instance = run_instance(&client).await;
        let mut volumes = Vec::new();
        for letter in ('f'..).take(count) {
            let volume = client
                .create_volume()
                .availability_zone(format!("{REGION}a"))
                .size(10)
                .send()
                .await
                .unwrap();
            let id = volume.volume_id().unwrap().to_owned();
            client
                .attach_volume()
                .instance_id(&instance)
                .volume_id(&id)
                .device(format!("/dev/sd{letter}"))
                .send()
                .await
                .unwrap();
            volumes.push(id.parse().unwrap());
        }
        Self {
            _process: process,
            proxy: Server::start(Some(address), |_| Reply::Pass).await,
            client,
            abroad,
            instance: instance.parse().unwrap(),
            volumes,
        }
    }

    pub fn settings(&self) -> EbsConfig {
        EbsConfig {
            instance: Some(self.instance.clone()),
            region: Some(REGION.parse().unwrap()),
            endpoint: Some(self.proxy.url().parse().unwrap()),
            retry_for: Period(Duration::from_secs(20)),
            timeout: Period(Duration::from_secs(5)),
            ..EbsConfig::default()
        }
    }

    /// The way to it through the proxy.
    pub fn access(&self) -> Access {
        has_credentials();
        Access::new(self.settings())
    }

    /// Snapshots that are there, by their own account.
    pub async fn snapshots(&self) -> Vec<aws_sdk_ec2::types::Snapshot> {
        ours(&self.client).await
    }

    /// The same of copies.
    pub async fn copies(&self) -> Vec<aws_sdk_ec2::types::Snapshot> {
        ours(&self.abroad).await
    }

    /// Answers the first `count` requests of `action` by `reply`, and passes the rest.
    pub fn first(&self, count: usize, action: &'static str, reply: Reply) {
        let done = std::sync::atomic::AtomicUsize::new(0);
        self.proxy.now(move |request: &Request| {
            let hit = request.action() == action
                && !request.is_dry_run()
                && done.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < count;
            if hit { reply.clone() } else { Reply::Pass }
        });
    }
}

/// moto checks no signature, but the SDK makes none without a key.
pub fn has_credentials() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the tests of this program read these through the SDK alone, and not before they were set here.
        unsafe {
            std::env::set_var("AWS_ACCESS_KEY_ID", "test");
            std::env::set_var("AWS_SECRET_ACCESS_KEY", "test");
        }
    });
}

async fn ours(client: &Client) -> Vec<aws_sdk_ec2::types::Snapshot> {
    // moto has snapshots of its own images, too.
    let ours = Filter::builder()
        .name("tag-key")
        .values("freezeframe")
        .build();
    let found = client.describe_snapshots().filters(ours).send().await;
    found.unwrap().snapshots().to_vec()
}

/// An instance in the region of `client`.
pub async fn run_instance(client: &Client) -> String {
    let made = client
        .run_instances()
        .image_id("ami-12c6146b")
        .instance_type(InstanceType::M5Large)
        .min_count(1)
        .max_count(1)
        .send()
        .await
        .unwrap();
    made.instances()[0].instance_id().unwrap().to_owned()
}

fn client(endpoint: &str, region: &'static str) -> Client {
    let http = freezeframe::aws::http_client(TrustStore::default(), ProxyConfig::disabled());
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http.unwrap())
        .region(Region::new(region))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .build();
    Client::from_conf(config)
}
