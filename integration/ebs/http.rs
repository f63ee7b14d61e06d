//! A small HTTP server that a test writes the answers of, and a proxy made of it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request, whole.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// When it had arrived.
    pub at: Instant,
}

impl Request {
    /// A parameter of EC2's query protocol, decoded as far as tests need.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.body.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.into_iter().find(|(key, _)| *key == name)?;
        Some(
            found
                .1
                .replace("%2F", "/")
                .replace("%3A", ":")
                .replace("%3F", "?")
                .replace("%3D", "=")
                .replace("%26", "&")
                .replace('+', " "),
        )
    }

    /// The action of EC2's API.
    pub fn action(&self) -> String {
        self.parameter("Action").unwrap_or_default()
    }

    /// The region that it is signed for.
    pub fn is_for(&self, region: &str) -> bool {
        let signed = self.headers.get("authorization");
        signed.is_some_and(|signed| signed.contains(&format!("/{region}/ec2/")))
    }

    pub fn is_dry_run(&self) -> bool {
        self.parameter("DryRun").as_deref() == Some("true")
    }
}

/// What is done with a request.
#[derive(Clone)]
pub enum Reply {
    /// This status, with this body, by a server of EC2 or the metadata service.
    Answer(u16, String, &'static [(&'static str, &'static str)]),
    /// Passed to the server behind, its answer as it is.
    Pass,
    /// The same after a while.
    Late(Duration),
    /// Passed, the answer changed.
    Change(fn(String) -> String),
    /// Passed, and the answer lost: the connection is cut.
    Lose,
    /// Passed, and never answered.
    Swallow,
    /// No answer at all, as long as the client waits.
    Silence,
}

impl Reply {
    /// An error as EC2 answers it.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>scripted</Message></Error></Errors><RequestID>x</RequestID></Response>"
        );
        Self::Answer(status, body, &[("content-type", "text/xml")])
    }

    pub fn text(body: &str) -> Self {
        Self::Answer(200, body.into(), &[])
    }
}

type Script = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A server on loopback, ended when dropped.
pub struct Server {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Request>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Answers as `script` says; what passes goes to `upstream`.
    pub async fn start(
        upstream: Option<SocketAddr>,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Arc::new(script)));
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (asking, noting) = (script.clone(), seen.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (script, seen) = (asking.clone(), noting.clone());
                tokio::spawn(async move {
                    // A client that leaves is no matter.
                    let _ = serve(client, upstream, script, seen).await;
                });
            }
        });
        Self {
            address,
            script,
            seen,
            accepting,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers otherwise from now on.
    pub fn now(&self, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How often an action was asked for, rehearsals left out.
    pub fn count(&self, action: &str) -> usize {
        let seen = self.seen();
        let wanted = seen
            .iter()
            .filter(|one| one.action() == action && !one.is_dry_run());
        wanted.count()
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: Option<SocketAddr>,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Request>>>,
) -> std::io::Result<()> {
    let (incoming, mut outgoing) = client.split();
    let mut incoming = BufReader::new(incoming);
    while let Some((head, request)) = read(&mut incoming).await? {
        seen.lock().unwrap().push(request.clone());
        let asked = script.lock().unwrap().clone();
        let reply = asked(&request);
        let (status, body, headers) = match reply {
            Reply::Answer(status, body, headers) => (status, body, headers),
            Reply::Silence => {
                tokio::time::sleep(Duration::from_secs(600)).await;
                return Ok(());
            }
            Reply::Lose => {
                forward(upstream, &head, &request).await?;
                return Ok(());
            }
            Reply::Swallow => {
                forward(upstream, &head, &request).await?;
                tokio::time::sleep(Duration::from_secs(600)).await;
                return Ok(());
            }
            Reply::Pass => with_type(forward(upstream, &head, &request).await?),
            Reply::Late(time) => {
                tokio::time::sleep(time).await;
                with_type(forward(upstream, &head, &request).await?)
            }
            Reply::Change(change) => {
                let (status, body) = forward(upstream, &head, &request).await?;
                with_type((status, change(body)))
            }
        };
        let mut answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        answer.push_str("\r\n");
        outgoing.write_all(answer.as_bytes()).await?;
        outgoing.write_all(body.as_bytes()).await?;
    }
    Ok(())
}

type Answer = (u16, String, &'static [(&'static str, &'static str)]);

fn with_type((status, body): (u16, String)) -> Answer {
    (status, body, &[("content-type", "text/xml")])
}

/// The next request, and its head's lines but the first; none where the client has left.
async fn read(
    from: &mut (impl AsyncBufReadExt + Unpin),
) -> std::io::Result<Option<(Vec<String>, Request)>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let first = lines.remove(0);
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let headers: BTreeMap<_, _> = lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    let request = Request {
        method,
        path,
        headers,
        body: String::from_utf8(body).unwrap(),
        at: Instant::now(),
    };
    Ok(Some((lines, request)))
}

/// Sends the request on, over a connection of its own, and reads the whole answer.
async fn forward(
    upstream: Option<SocketAddr>,
    head: &[String],
    request: &Request,
) -> std::io::Result<(u16, String)> {
    let mut server = TcpStream::connect(upstream.unwrap()).await?;
    let kept = head
        .iter()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let head: String = kept.map(|line| format!("{line}\r\n")).collect();
    let sent = format!(
        "{} {} HTTP/1.1\r\n{head}connection: close\r\n\r\n{}",
        request.method, request.path, request.body
    );
    server.write_all(sent.as_bytes()).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, body.to_owned()))
}
