//! One client's connection through the proxy: requests passed to the server and answers back, with the faults.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt, BufReader, copy, sink};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep, sleep_until};

use super::http::{Body, Head, Piece};
use super::{Fault, Request, Shared};

const BUFFER: usize = 64 * 1024;

/// How a connection ends after an exchange that it does not survive.
enum Ending {
    Reset,
    Clean,
}

impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

/// Serves a client, whose socket resets when it is closed, until either side leaves or a fault ends it.
pub async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    if let Ending::Clean = exchanges(&mut client, &shared).await {
        // Closing at once would reset after all, and the client lose what it has not read yet.
        let _ = client.shutdown().await;
        let _ = copy(&mut client, &mut sink()).await;
    }
}

async fn exchanges(client: &mut TcpStream, shared: &Shared) -> Ending {
    let (incoming, outgoing) = client.split();
    let mut client = Client {
        incoming: BufReader::with_capacity(BUFFER, incoming),
        outgoing,
    };
    let mut server = None;
    loop {
        match exchange(&mut client, server, shared).await {
            Ok(kept) => server = kept,
            Err(ending) => return ending,
        }
    }
}

struct Client<'c> {
    incoming: BufReader<ReadHalf<'c>>,
    outgoing: WriteHalf<'c>,
}

/// One request and what becomes of it; returns the connection to the server for the next.
async fn exchange(
    client: &mut Client<'_>,
    server: Option<TcpStream>,
    shared: &Shared,
) -> Result<Option<TcpStream>, Ending> {
    let Some(head) = Head::read(&mut client.incoming).await? else {
        return Err(Ending::Clean);
    };
    let request = shared.admit(&head);
    if let Fault::Delay(time) = request.fault {
        sleep(time).await;
    }
    if head.waits_for_continue() {
        // Not left to the server, as some faults need the body and no server.
        let leave = b"HTTP/1.1 100 Continue\r\n\r\n";
        client.outgoing.write_all(leave).await?;
    }
    let body = Body::new(&mut client.incoming, head.request_framing());
    match request.fault {
        Fault::CutRequest(after) => {
            drain(body, Change::CutAfter(after)).await?;
            return Err(Ending::Reset);
        }
        Fault::Hang => {
            drain(body, Change::None).await?;
            copy(&mut client.incoming, &mut sink()).await?;
            return Err(Ending::Reset);
        }
        Fault::Answer(status, code) => {
            drain(body, Change::None).await?;
            let answer = error_answer(status, code, &request);
            client.outgoing.write_all(answer.as_bytes()).await?;
            if head.ends_connection() {
                return Err(Ending::Clean);
            }
            return Ok(server);
        }
        _ => {}
    }
    let server = connected(server, shared.upstream).await?;
    forward(&head, &request, body, &mut client.outgoing, server)
        .await
        .map(Some)
}

/// An S3 error that shows by its request id that no server made it.
fn error_answer(status: u16, code: &str, request: &Request) -> String {
    let id = format!("fault-proxy-{}", request.number);
    let error = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>Injected by the fault proxy</Message>\
         <RequestId>{id}</RequestId></Error>"
    );
    let head = format!("HTTP/1.1 {status} {code}\r\nx-amz-request-id: {id}\r\n");
    if matches!(status, 204 | 304) {
        return format!("{head}\r\n");
    }
    let length = error.len();
    let body = if request.method == "HEAD" { "" } else { &error };
    format!("{head}Content-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The kept connection to the server, or a new one where the server closed it meanwhile: that may happen to any
/// idle connection and would look like a fault nobody planned.
async fn connected(kept: Option<TcpStream>, address: SocketAddr) -> io::Result<TcpStream> {
    if let Some(server) = kept
        && let Err(error) = server.try_read(&mut [0])
        && error.kind() == io::ErrorKind::WouldBlock
    {
        return Ok(server);
    }
    let server = TcpStream::connect(address).await.inspect_err(|error| {
        eprintln!("fault proxy: no connection to the server at {address}: {error}");
    })?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Passes the request on and the answer back, both at once: a server may answer before it has the whole body.
async fn forward(
    head: &Head,
    request: &Request,
    mut body: Body<'_, impl AsyncBufRead + Unpin>,
    client: &mut WriteHalf<'_>,
    mut server: TcpStream,
) -> Result<TcpStream, Ending> {
    let (incoming, mut outgoing) = server.split();
    let mut incoming = BufReader::with_capacity(BUFFER, incoming);
    let upload = async {
        let change = Change::of_request(&request.fault);
        let head = match request.fault {
            Fault::DropHeader(name) => head.without(name),
            _ => head.bytes.clone(),
        };
        let sent = match outgoing.write_all(&head).await {
            Ok(()) => pass(&mut body, &mut outgoing, change).await,
            Err(_) => Err(Broken::Sink),
        };
        match sent {
            Ok(()) => Ok(true),
            // A server that does not want the rest may have answered so.
            Err(Broken::Sink) => Ok(false),
            Err(Broken::Source) => Err(Ending::Reset),
        }
    };
    let download = pass_answer(request, &mut incoming, client);
    let (sent_whole, server_stays) = tokio::try_join!(upload, download)?;

    if request.fault == Fault::LoseReply {
        return Err(Ending::Reset);
    }
    if sent_whole && server_stays && !head.ends_connection() {
        Ok(server)
    } else {
        Err(Ending::Clean)
    }
}

/// Passes the answer on; whether the server keeps the connection after it.
async fn pass_answer(
    request: &Request,
    server: &mut (impl AsyncBufRead + Unpin),
    client: &mut WriteHalf<'_>,
) -> Result<bool, Ending> {
    let head = loop {
        let head = Head::read(server).await?.ok_or(Ending::Reset)?;
        // The client had its leave to send the body from the proxy.
        if !head.is_interim() {
            break head;
        }
    };
    let mut body = Body::new(server, head.response_framing(&request.method));
    if request.fault == Fault::LoseReply {
        drain(body, Change::None).await?;
        return Ok(false);
    }
    client.write_all(&head.bytes).await?;
    let change = Change::of_response(&request.fault);
    pass(&mut body, client, change)
        .await
        .map_err(|_| Ending::Reset)?;
    match request.fault {
        Fault::CutResponse(_) => Err(Ending::Reset),
        Fault::TruncateResponse(_) => Err(Ending::Clean),
        _ => Ok(!head.ends_connection() && !body.ended_with_connection()),
    }
}

/// What is done to a body on its way.
#[derive(Clone, Copy)]
enum Change {
    None,
    Pace(u64),
    CutAfter(u64),
    Flip(u64),
}

impl Change {
    fn of_request(fault: &Fault) -> Self {
        match *fault {
            Fault::Throttle(rate) => Self::Pace(rate),
            Fault::FlipRequest(at) => Self::Flip(at),
            _ => Self::None,
        }
    }

    fn of_response(fault: &Fault) -> Self {
        match *fault {
            Fault::Throttle(rate) => Self::Pace(rate),
            Fault::FlipResponse(at) => Self::Flip(at),
            Fault::CutResponse(after) | Fault::TruncateResponse(after) => Self::CutAfter(after),
            _ => Self::None,
        }
    }
}

/// The side of a passage that failed.
enum Broken {
    Source,
    Sink,
}

/// Passes a body on, up to where it is cut.
async fn pass(
    body: &mut Body<'_, impl AsyncBufRead + Unpin>,
    sink: &mut (impl AsyncWrite + Unpin),
    change: Change,
) -> Result<(), Broken> {
    let mut pace = Pace::start();
    let mut passed = 0;
    loop {
        let most = match change {
            Change::CutAfter(end) if passed == end => return Ok(()),
            Change::CutAfter(end) => end - passed,
            Change::Pace(rate) => (rate / 50).max(1),
            Change::None | Change::Flip(_) => u64::MAX,
        };
        let content = match body.next(most).await {
            Ok(None) => return Ok(()),
            Ok(Some(Piece::Content(content))) => content,
            Ok(Some(Piece::Framing(framing))) => {
                sink.write_all(framing).await.map_err(|_| Broken::Sink)?;
                continue;
            }
            Err(_) => return Err(Broken::Source),
        };
        let length = content.len() as u64;
        let written = match change {
            Change::Flip(at) if (passed..passed + length).contains(&at) => {
                write_flipped(sink, content, (at - passed) as usize).await
            }
            Change::Pace(rate) => {
                pace.wait(length, rate).await;
                sink.write_all(content).await
            }
            _ => sink.write_all(content).await,
        };
        written.map_err(|_| Broken::Sink)?;
        passed += length;
    }
}

async fn write_flipped(
    sink: &mut (impl AsyncWrite + Unpin),
    content: &[u8],
    at: usize,
) -> io::Result<()> {
    sink.write_all(&content[..at]).await?;
    sink.write_all(&[content[at] ^ 1]).await?;
    sink.write_all(&content[at + 1..]).await
}

/// Reads a body, up to where it is cut, for nobody.
async fn drain(mut body: Body<'_, impl AsyncBufRead + Unpin>, change: Change) -> io::Result<()> {
    pass(&mut body, &mut sink(), change)
        .await
        .map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// When the next bytes of a throttled body may go.
struct Pace {
    due: Instant,
}

impl Pace {
    /// What may be caught up: timers ring late, and a stalled sender shall not save up time for a burst.
    const SLACK: Duration = Duration::from_millis(50);

    fn start() -> Self {
        Self {
            due: Instant::now(),
        }
    }

    async fn wait(&mut self, length: u64, rate: u64) {
        assert!(rate > 0, "a throttled body must move; Fault::Hang does not");
        let earliest = Instant::now() - Self::SLACK;
        let takes = Duration::from_secs_f64(length as f64 / rate as f64);
        self.due = self.due.max(earliest) + takes;
        sleep_until(self.due).await;
    }
}
