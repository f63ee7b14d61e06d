//! A real S3 server (s3s-fs) on loopback, in this process. It checks signatures, MD5 and conditions.
//!
//! Five things are mended here. s3s-fs does not implement ListMultipartUploads, without which nobody could tell whether
//! uploads are left: what is begun, completed and aborted is noted. It answers 500 where a key is a folder
//! of its, and 403 where an upload is gone. And between looking whether a key is taken and taking it, others may take it: here one goes after the other. What ends an upload goes on
//! when the client leaves, as on a server that notices it only when it answers.
//!
//! And it can be told to do wrong what other servers do wrong: see [`Misbehaviour`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// Who may use the server.
pub const ACCESS_KEY: &str = "AKIDTEST";
/// Their secret.
pub const SECRET_KEY: &str = "test/secret+key";

/// What the server does wrong, from when it is set.
#[derive(Debug, Default)]
pub struct Misbehaviour {
    /// Its ETags are no MD5s and tell nothing of the content, as with keys in KMS.
    pub opaque_etags: AtomicBool,
    /// It changes a byte of what is uploaded in parts, after every check of it.
    pub changes_a_byte: AtomicBool,
    /// It does as if there were no `If-None-Match`.
    pub ignores_conditions: AtomicBool,
}

/// A running server; it ends when this is dropped.
pub struct S3Server {
    address: SocketAddr,
    uploads: Uploads,
    misbehaviour: Arc<Misbehaviour>,
    _serving: AbortOnDropHandle<()>,
}

type Uploads = Arc<Mutex<BTreeMap<String, (String, String)>>>;

impl S3Server {
    /// Serves the folders in `root` as buckets, on `port` of loopback (0: a free one).
    pub async fn start(root: &Path, port: u16) -> Self {
        let uploads = Uploads::default();
        let misbehaviour = Arc::<Misbehaviour>::default();
        let files = Tracked {
            fs: Arc::new(FileSystem::new(root).expect("the root is a folder")),
            root: root.to_owned(),
            uploads: uploads.clone(),
            creating: Arc::default(),
            misbehaviour: misbehaviour.clone(),
        };
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            let http = Builder::new(TokioExecutor::new());
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((socket, _)) = accepted else { continue };
                        let _ = socket.set_nodelay(true);
                        let connection = http.serve_connection(TokioIo::new(socket), service.clone());
                        let connection = connection.into_owned();
                        connections.spawn(async move { drop(connection.await) });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self {
            address,
            uploads,
            misbehaviour,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is to do wrong from now on.
    pub fn misbehaves(&self) -> &Misbehaviour {
        &self.misbehaviour
    }

    /// The keys of uploads that were begun and neither completed nor aborted.
    pub fn open_uploads(&self) -> Vec<String> {
        let uploads = self.uploads.lock().unwrap();
        uploads.values().map(|(_, key)| key.clone()).collect()
    }
}

#[derive(Clone)]
struct Tracked {
    fs: Arc<FileSystem>,
    root: PathBuf,
    uploads: Uploads,
    creating: Arc<tokio::sync::Mutex<()>>,
    misbehaviour: Arc<Misbehaviour>,
}

impl Tracked {
    /// The ETag as this server shows it. Backwards it is no hash of anything.
    fn etag(&self, etag: Option<ETag>) -> Option<ETag> {
        match self.misbehaviour.opaque_etags.load(Relaxed) {
            true => etag.map(|etag| ETag::Strong(etag.value().chars().rev().collect())),
            false => etag,
        }
    }

    fn condition(&self, if_none_match: Option<IfNoneMatch>) -> Option<IfNoneMatch> {
        if_none_match.filter(|_| !self.misbehaviour.ignores_conditions.load(Relaxed))
    }

    /// Changes a byte of the object, if it is to.
    fn change(&self, bucket: &str, key: &str) {
        if self.misbehaviour.changes_a_byte.load(Relaxed) {
            let place = self.root.join(bucket).join(key);
            let mut bytes = std::fs::read(&place).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(place, bytes).unwrap();
        }
    }

    fn known(&self, upload: &str) -> S3Result<()> {
        match self.uploads.lock().unwrap().contains_key(upload) {
            true => Ok(()),
            false => Err(s3_error!(NoSuchUpload)),
        }
    }

    /// A folder that holds objects is no object.
    fn no_folder(&self, bucket: &str, key: &str) -> S3Result<()> {
        match self.root.join(bucket).join(key).is_dir() {
            true => Err(s3_error!(NoSuchKey)),
            false => Ok(()),
        }
    }
}

/// Calls that go to the file system as they are.
macro_rules! pass_on {
    ($($call:ident: $input:ty => $output:ty;)*) => {
        #[async_trait::async_trait]
        impl S3 for Tracked {
            $(async fn $call(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.fs.$call(request).await
            })*

            async fn head_object(
                &self,
                request: S3Request<HeadObjectInput>,
            ) -> S3Result<S3Response<HeadObjectOutput>> {
                self.no_folder(&request.input.bucket, &request.input.key)?;
                let mut response = self.fs.head_object(request).await?;
                response.output.e_tag = self.etag(response.output.e_tag);
                Ok(response)
            }

            async fn get_object(
                &self,
                request: S3Request<GetObjectInput>,
            ) -> S3Result<S3Response<GetObjectOutput>> {
                self.no_folder(&request.input.bucket, &request.input.key)?;
                self.fs.get_object(request).await
            }

            async fn delete_object(
                &self,
                request: S3Request<DeleteObjectInput>,
            ) -> S3Result<S3Response<DeleteObjectOutput>> {
                if self.no_folder(&request.input.bucket, &request.input.key).is_err() {
                    return Ok(S3Response::new(DeleteObjectOutput::default()));
                }
                self.fs.delete_object(request).await
            }

            async fn put_object(
                &self,
                mut request: S3Request<PutObjectInput>,
            ) -> S3Result<S3Response<PutObjectOutput>> {
                let _turn = self.creating.lock().await;
                request.input.if_none_match = self.condition(request.input.if_none_match);
                let mut response = self.fs.put_object(request).await?;
                response.output.e_tag = self.etag(response.output.e_tag);
                Ok(response)
            }

            async fn upload_part(
                &self,
                request: S3Request<UploadPartInput>,
            ) -> S3Result<S3Response<UploadPartOutput>> {
                let mut response = self.fs.upload_part(request).await?;
                response.output.e_tag = self.etag(response.output.e_tag);
                Ok(response)
            }

            async fn create_multipart_upload(
                &self,
                request: S3Request<CreateMultipartUploadInput>,
            ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
                let server = self.clone();
                let beginning = async move {
                    let place = (request.input.bucket.clone(), request.input.key.clone());
                    let response = server.fs.create_multipart_upload(request).await?;
                    if let Some(id) = &response.output.upload_id {
                        server.uploads.lock().unwrap().insert(id.clone(), place);
                    }
                    Ok(response)
                };
                tokio::spawn(beginning).await.unwrap()
            }

            async fn complete_multipart_upload(
                &self,
                mut request: S3Request<CompleteMultipartUploadInput>,
            ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
                let server = self.clone();
                let ending = async move {
                    let id = request.input.upload_id.clone();
                    let _turn = server.creating.lock().await;
                    server.known(&id)?;
                    let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
                    request.input.if_none_match = server.condition(request.input.if_none_match);
                    let response = server.fs.complete_multipart_upload(request).await?;
                    server.change(&bucket, &key);
                    server.uploads.lock().unwrap().remove(&id);
                    Ok(response)
                };
                tokio::spawn(ending).await.unwrap()
            }

            async fn abort_multipart_upload(
                &self,
                request: S3Request<AbortMultipartUploadInput>,
            ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
                let server = self.clone();
                let ending = async move {
                    let id = request.input.upload_id.clone();
                    let _turn = server.creating.lock().await;
                    server.known(&id)?;
                    let response = server.fs.abort_multipart_upload(request).await?;
                    server.uploads.lock().unwrap().remove(&id);
                    Ok(response)
                };
                tokio::spawn(ending).await.unwrap()
            }

            async fn list_multipart_uploads(
                &self,
                request: S3Request<ListMultipartUploadsInput>,
            ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
                let prefix = request.input.prefix.unwrap_or_default();
                let uploads = self.uploads.lock().unwrap();
                let wanted = uploads.iter().filter(|(_, (bucket, key))| {
                    *bucket == request.input.bucket && key.starts_with(&prefix)
                });
                let upload = |(id, (_, key)): (&String, &(String, String))| MultipartUpload {
                    key: Some(key.clone()),
                    upload_id: Some(id.clone()),
                    ..Default::default()
                };
                Ok(S3Response::new(ListMultipartUploadsOutput {
                    uploads: Some(wanted.map(upload).collect()),
                    is_truncated: Some(false),
                    ..Default::default()
                }))
            }
        }
    };
}

pass_on! {
    create_bucket: CreateBucketInput => CreateBucketOutput;
    head_bucket: HeadBucketInput => HeadBucketOutput;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
    list_parts: ListPartsInput => ListPartsOutput;
}
