//! How fast the S3 store moves bytes, beside plain parallel requests to the same server, for `scripts/bench store`.
//!
//! store_rate MEGABYTES ROUNDS: prints one JSON line a round, rates in MB/s. The server (s3s-fs) has a runtime of its own in this process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

#[path = "../integration/s3/s3s_fs_server.rs"]
#[allow(dead_code)]
mod s3s_fs_server;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use freezeframe::config::s3::S3Config;
use freezeframe::store::SharedStore;
use freezeframe::store::object::StoredObject;
use freezeframe::store::s3::S3Store;
use freezeframe::store::sink::BlockingSink;
use futures_util::{StreamExt, stream};
use s3s_fs_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

const BUCKET: &str = "bench";
const PART: usize = 8 << 20;
/// As many as the store has.
const CONNECTIONS: usize = 8;

fn main() {
    freezeframe::memory::keep_freed_buffers();
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().unwrap().parse::<usize>().unwrap();
    let (megabytes, rounds) = (number(), number());
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("root").join(BUCKET)).unwrap();
    let serving = Builder::new_multi_thread().enable_all().build().unwrap();
    let server = serving.block_on(S3Server::start(&home.path().join("root"), 0));
    let endpoint = format!("http://{}", server.address());

    let credentials = home.path().join("credentials");
    let text = format!(
        "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    );
    std::fs::write(&credentials, text).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&credentials, private).unwrap();
    let settings = S3Config {
        endpoint: Some(endpoint.parse().unwrap()),
        path_style: true,
        credentials_file: Some(credentials),
        ..S3Config::default()
    };
    let spool = home.path().join("spool");
    let store: SharedStore = Arc::new(S3Store::new(
        BUCKET,
        "ours",
        &settings,
        spool,
        CancellationToken::new(),
    ));

    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let mut part = vec![0; PART];
    fastrand::fill(&mut part);
    let parts = (megabytes << 20) / PART;
    let client = plain(&endpoint);
    for round in 0..rounds {
        let key = format!("object-{round}");
        let rate = |begun: Instant| (parts * PART) as f64 / 1e6 / begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        runtime.block_on(put_all(&client, round, &part, parts));
        let plain_up = rate(begun);

        let begun = Instant::now();
        runtime.block_on(upload(store.clone(), key.clone(), part.clone(), parts));
        let our_up = rate(begun);

        let begun = Instant::now();
        runtime.block_on(get_all(&client, round, parts));
        let plain_down = rate(begun);

        let begun = Instant::now();
        runtime.block_on(download(store.clone(), key.clone()));
        let our_down = rate(begun);

        println!(
            "{{\"plain_up\": {plain_up:.1}, \"our_up\": {our_up:.1}, \"plain_down\": {plain_down:.1}, \"our_down\": {our_down:.1}}}"
        );
        runtime.block_on(store.delete(&key)).unwrap();
        std::fs::remove_file(home.path().join("root").join(BUCKET).join(plain_key(round))).unwrap();
    }
}

fn plain(endpoint: &str) -> aws_sdk_s3::Client {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
            aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::from_static("us-east-1"))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .credentials_provider(Credentials::new(
            ACCESS_KEY, SECRET_KEY, None, None, "bench",
        ))
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

/// The ceiling of uploads: the same object by parallel part requests and nothing else.
async fn put_all(client: &aws_sdk_s3::Client, round: usize, part: &[u8], parts: usize) {
    let (body, key) = (bytes::Bytes::copy_from_slice(part), plain_key(round));
    let begun = client.create_multipart_upload().bucket(BUCKET).key(&key);
    let begun = begun.send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let sent: Vec<CompletedPart> = stream::iter(1..=i32::try_from(parts).unwrap())
        .map(|number| {
            let sending = client
                .upload_part()
                .bucket(BUCKET)
                .key(&key)
                .upload_id(id)
                .part_number(number)
                .body(ByteStream::from(body.clone()))
                .send();
            async move {
                let sent = sending.await.unwrap();
                CompletedPart::builder()
                    .part_number(number)
                    .e_tag(sent.e_tag().unwrap())
                    .build()
            }
        })
        .buffered(CONNECTIONS)
        .collect()
        .await;
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(sent))
        .build();
    client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(&key)
        .upload_id(id)
        .multipart_upload(parts)
        .send()
        .await
        .unwrap();
}

fn plain_key(round: usize) -> String {
    format!("plain-{round}")
}

/// The ceiling of downloads: parallel requests for ranges.
async fn get_all(client: &aws_sdk_s3::Client, round: usize, parts: usize) {
    stream::iter(0..parts)
        .for_each_concurrent(CONNECTIONS, |number| {
            let asking = client
                .get_object()
                .bucket(BUCKET)
                .key(plain_key(round))
                .range(format!(
                    "bytes={}-{}",
                    number * PART,
                    (number + 1) * PART - 1
                ))
                .send();
            async {
                let mut body = asking.await.unwrap().body;
                let mut read = 0;
                while let Some(bytes) = body.try_next().await.unwrap() {
                    read += bytes.len();
                }
                assert_eq!(read, PART);
            }
        })
        .await;
}

/// As an archive is written: by a thread, in chunks.
async fn upload(store: SharedStore, key: String, part: Vec<u8>, parts: usize) {
    let writer = store
        .create(&key, Some((parts * PART) as u64))
        .await
        .unwrap();
    let runtime = Handle::current();
    let writing = move || {
        let mut sink = BlockingSink::new(writer, runtime);
        for _ in 0..parts {
            sink.write_all(&part).unwrap();
        }
        sink.finish().unwrap();
    };
    tokio::task::spawn_blocking(writing).await.unwrap();
}

/// As `verify` reads: by a thread, from start to end.
async fn download(store: SharedStore, key: String) {
    let object = StoredObject::open(&store, &key).await.unwrap();
    let reading = move || {
        let (mut reader, mut chunk) = (object.reader(), vec![0; 1 << 20]);
        let mut read = 0;
        loop {
            match reader.read(&mut chunk).unwrap() {
                0 => break,
                some => read += some as u64,
            }
        }
        assert_eq!(read, object.size());
    };
    tokio::task::spawn_blocking(reading).await.unwrap();
}
