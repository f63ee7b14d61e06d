//! The figures by HTTP, for Prometheus: one page, read-only, to few clients at a time and none for long.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::error::WatchError;
use super::exposition;

/// Clients at a time; more wait.
const MOST_CLIENTS: usize = 32;
/// How long a request may take to come.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long a client may take in all.
const CLIENT_WITHIN: Duration = Duration::from_secs(20);
/// How large a request may be. The least that hyper takes.
const LARGEST_HEAD: usize = 8 << 10;
/// How long to wait where no client can be taken, because of too many open files for instance.
const PAUSE: Duration = Duration::from_millis(500);

/// Where the page is.
pub const PATH: &str = "/metrics";

/// Takes the address.
///
/// # Errors
/// [`WatchError::Listen`].
pub async fn listen(address: SocketAddr) -> Result<TcpListener, WatchError> {
    let fail = |source| WatchError::Listen { address, source };
    TcpListener::bind(address).await.map_err(fail)
}

/// Serves what `page` makes for each request, until `cancel`.
pub async fn serve<F, R>(listener: TcpListener, page: F, cancel: &CancellationToken)
where
    F: Fn() -> R + Clone + Send + Sync + 'static,
    R: Future<Output = String> + Send + 'static,
{
    let clients = Arc::new(Semaphore::new(MOST_CLIENTS));
    let serving = async {
        // It is never closed.
        while let Ok(place) = clients.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let page = page.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        converse(stream, page).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a client");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = cancel.cancelled() => {}
    }
}

/// One request of one client.
async fn converse<F, R>(stream: TcpStream, page: F)
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = String> + Send + 'static,
{
    let service = service_fn(|request| answer(request, &page));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(LARGEST_HEAD)
        .keep_alive(false)
        // Who has asked may close his side while he waits.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CLIENT_WITHIN, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client was not served"),
        Err(_) => tracing::debug!("a client was too slow"),
    }
}

async fn answer<F, R>(
    request: Request<Incoming>,
    page: &F,
) -> Result<Response<Full<Bytes>>, Infallible>
where
    F: Fn() -> R,
    R: Future<Output = String>,
{
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match (request.uri().path(), asks) {
        // hyper leaves the body away where only the head was asked for.
        (PATH, true) => Response::new(Full::from(page().await)),
        (PATH, false) => says(StatusCode::METHOD_NOT_ALLOWED, "only GET is understood\n"),
        _ => says(StatusCode::NOT_FOUND, "there is nothing but /metrics\n"),
    };
    let kind = match response.status() {
        StatusCode::OK => exposition::CONTENT_TYPE,
        _ => "text/plain",
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    headers.insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    Ok(response)
}

fn says(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
