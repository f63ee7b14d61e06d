//! A proxy before a real S3 server that breaks chosen requests in chosen ways, so that tests can show what
//! the S3 store survives. Everything it was not told to break passes through byte for byte.

#[path = "fault_proxy/connection.rs"]
mod connection;
#[path = "fault_proxy/http.rs"]
mod http;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime;
use tokio::sync::oneshot;

use self::http::Head;

/// What happens to one request. Bytes of a body are counted from 0 and without the framing of
/// `Transfer-Encoding: chunked`; the framing of `aws-chunked` is part of the body here.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Passes it and its answer unchanged.
    None,
    /// Waits before forwarding. Like a request held up in a network it arrives even when the client gave up.
    Delay(Duration),
    /// Bytes of the body, both ways, go no faster than this many a second. Socket buffers take the first few
    /// megabytes of an upload at once, so only the server sees from the first byte that it is slow.
    Throttle(u64),
    /// Resets the connection after this many bytes of the request body were read, or at its end if that is
    /// earlier. The server sees nothing of the request: some take a cut body for a whole one, which S3 does not.
    CutRequest(u64),
    /// Forwards the request, then resets the connection after this many bytes of the response body, or after
    /// the whole answer if that is shorter. A client that was slow to read may get fewer.
    CutResponse(u64),
    /// Forwards the request, then ends the connection cleanly after this many bytes of the response body,
    /// while the answer's head promised more.
    TruncateResponse(u64),
    /// Forwards the request and waits for the server's whole answer, of which the client gets nothing but a
    /// reset connection.
    LoseReply,
    /// Answers this status with an S3 error of this code after reading the whole request, which the server
    /// never sees. The status 200 makes the error within a success that S3 has for long operations.
    Answer(u16, &'static str),
    /// Reads the request and never answers, until the client leaves or the proxy does.
    Hang,
    /// Flips one bit of this byte of the response body, if it has so many.
    FlipResponse(u64),
    /// Forwards the request without its headers of this lower-case name. A server that checks what is signed refuses it.
    DropHeader(&'static str),
    /// Flips one bit of this byte of the request body, if it has so many, before it reaches the server.
    FlipRequest(u64),
}

/// A request as its head told it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its place among all requests of all connections, from 0.
    pub number: u64,
    /// The method.
    pub method: String,
    /// The path as sent (percent-encoded), without the query.
    pub path: String,
    /// What follows the `?`, or nothing.
    pub query: String,
    /// The length of the body, none where a chunked one does not tell it beforehand.
    pub body_length: Option<u64>,
    /// How many requests with the same method, path and query came before.
    pub attempt_of: u64,
    /// What was done to it; while the plan decides that, [`Fault::None`].
    pub fault: Fault,
    headers: Vec<(String, String)>,
}

impl Request {
    fn from_head(head: &Head) -> Self {
        let (path, query) = head.target().split_once('?').unwrap_or((head.target(), ""));
        Self {
            number: 0,
            method: head.method().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            body_length: head.request_framing().length(),
            attempt_of: 0,
            fault: Fault::None,
            headers: head.headers.clone(),
        }
    }

    /// One that nobody has sent, for who judges requests.
    pub fn of(method: &str, target: &str, headers: &[(&str, &str)]) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            number: 0,
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            body_length: None,
            attempt_of: 0,
            fault: Fault::None,
            headers: headers.iter().map(header).collect(),
        }
    }

    /// The value of the first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        http::find(&self.headers, name)
    }

    /// The S3 operation, of those the store may use; `"Other"` for the rest. Told from the shape of a
    /// path-style request, as not every client names it in `x-id`.
    pub fn operation(&self) -> &'static str {
        const OTHER_RESOURCES: [&str; 8] = [
            "acl",
            "attributes",
            "legal-hold",
            "restore",
            "retention",
            "select",
            "tagging",
            "torrent",
        ];
        let has = |name: &str| self.parameter(name).is_some();
        if OTHER_RESOURCES.iter().any(|name| has(name)) {
            return "Other";
        }
        let copies = self.header("x-amz-copy-source").is_some();
        let key = self.path.trim_start_matches('/').split_once('/');
        let of_object = key.is_some_and(|(_, key)| !key.is_empty());
        match (self.method.as_str(), of_object) {
            ("PUT", true) if has("uploadId") && copies => "UploadPartCopy",
            ("PUT", true) if has("uploadId") => "UploadPart",
            ("PUT", true) if copies => "CopyObject",
            ("PUT", true) => "PutObject",
            ("GET", true) if has("uploadId") => "ListParts",
            ("GET", true) => "GetObject",
            ("HEAD", true) => "HeadObject",
            ("DELETE", true) if has("uploadId") => "AbortMultipartUpload",
            ("DELETE", true) => "DeleteObject",
            ("POST", true) if has("uploads") => "CreateMultipartUpload",
            ("POST", true) if has("uploadId") => "CompleteMultipartUpload",
            ("GET", false) if has("uploads") => "ListMultipartUploads",
            ("GET", false) if self.parameter("list-type") == Some("2") => "ListObjectsV2",
            ("POST", false) if has("delete") => "DeleteObjects",
            ("HEAD", false) => "HeadBucket",
            _ => "Other",
        }
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find_map(|(found, value)| (found == name).then_some(value))
    }
}

type Plan = Arc<dyn Fn(&Request) -> Fault + Send + Sync>;

/// What all connections share.
struct Shared {
    upstream: SocketAddr,
    plan: Mutex<Plan>,
    seen: Mutex<Vec<Request>>,
    /// Held while the plan decides, so that it is asked in the order of [`Request::number`]; another lock than
    /// that of `seen`, so that the plan may look at what was seen.
    attempts: Mutex<HashMap<String, u64>>,
}

impl Shared {
    /// Takes note of a request and decides what happens to it.
    fn admit(&self, head: &Head) -> Request {
        let mut request = Request::from_head(head);
        let mut attempts = self.attempts.lock().unwrap();
        let same = format!("{} {}", head.method(), head.target());
        let before = attempts.entry(same).or_default();
        request.attempt_of = *before;
        *before += 1;

        let place = {
            let mut seen = self.seen.lock().unwrap();
            request.number = seen.len() as u64;
            seen.push(request.clone());
            seen.len() - 1
        };
        let plan = self.plan.lock().unwrap().clone();
        request.fault = plan(&request);
        self.seen.lock().unwrap()[place].fault = request.fault.clone();
        request
    }
}

/// The running proxy. Dropping it closes its listener and resets its connections before the drop returns.
///
/// It lives on a thread and a runtime of its own: whatever the test's runtime does with time and threads, the
/// proxy keeps working, and what was closed is known to be closed.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    place: Mutex<Place>,
}

/// Either the proxy stands or its port is kept for its return: a client, or a test beside, could be given the
/// port otherwise.
struct Place {
    standing: Option<Standing>,
    kept: Option<TcpSocket>,
}

impl FaultProxy {
    /// Stands on a free port of 127.0.0.1 before `upstream`. The plan is asked once for each request, when its
    /// head was read.
    pub async fn start(
        upstream: SocketAddr,
        plan: impl Fn(&Request) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let socket = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            plan: Mutex::new(Arc::new(plan)),
            seen: Mutex::default(),
            attempts: Mutex::default(),
        });
        let place = Mutex::new(Place {
            standing: Some(Standing::start(socket, shared.clone())),
            kept: None,
        });
        Self {
            address,
            shared,
            place,
        }
    }

    /// The URL to give to the client as its endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the plan for all requests whose heads were not read yet.
    pub fn set_plan(&self, plan: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
        *self.shared.plan.lock().unwrap() = Arc::new(plan);
    }

    /// Every request so far, in order, with what was done to it.
    pub fn seen(&self) -> Vec<Request> {
        assert!(!self.shared.attempts.is_poisoned(), "the plan panicked");
        self.shared.seen.lock().unwrap().clone()
    }

    /// Whether the server is gone: then open connections are reset and new ones refused. Done when it returns.
    /// Not to be called by the plan, which runs on the thread that has to end.
    pub fn gone(&self, gone: bool) {
        let mut place = self.place.lock().unwrap();
        if gone {
            if let Some(standing) = place.standing.take() {
                drop(standing);
                place.kept = Some(bound(self.address));
            }
        } else if let Some(socket) = place.kept.take() {
            place.standing = Some(Standing::start(socket, self.shared.clone()));
        }
    }
}

/// A socket that holds the address and, as long as it does not listen, refuses connections.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Connections of a former listener may linger on the port.
    socket.set_reuseaddr(true).unwrap();
    // Its connections inherit it; grown to what the system allows it would take a whole throttled part at once.
    socket.set_recv_buffer_size(256 * 1024).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// A listener and its connections, closed with it.
struct Standing {
    leave: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Standing {
    fn start(socket: TcpSocket, shared: Arc<Shared>) -> Self {
        let (leave, left) = oneshot::channel();
        let (listens, listening) = mpsc::channel();
        let work = move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = socket.listen(1024).unwrap();
                listens.send(()).unwrap();
                tokio::select! {
                    _ = left => {}
                    () = accept(listener, shared) => {}
                }
            });
        };
        let thread = thread::Builder::new()
            .name("fault proxy".to_owned())
            .spawn(work)
            .unwrap();
        listening.recv().unwrap();
        Self {
            leave: Some(leave),
            thread: Some(thread),
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.leave.take();
        // A panic of that thread was reported already; here it could abort the test.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // A client may be gone before it is accepted, which is no matter of the others.
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        // From here on, closing the socket in any way resets the connection, also when its task never ran.
        if client.set_zero_linger().is_ok() && client.set_nodelay(true).is_ok() {
            tokio::spawn(connection::serve(client, shared.clone()));
        }
    }
}
