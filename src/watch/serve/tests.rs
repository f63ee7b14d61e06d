use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A server whose page is "up 1".
async fn server() -> (SocketAddr, CancellationToken) {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let until = cancel.clone();
    let page = || async { "up 1\n".to_owned() };
    tokio::spawn(async move { serve(listener, page, &until).await });
    (address, cancel)
}

/// What is answered to `request`, to its end.
async fn talk(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // What is refused may be cut off.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn one_page_is_served_and_nothing_else() {
    let (address, _cancel) = server().await;
    let get = talk(address, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(get.starts_with("HTTP/1.1 200 OK\r\n"), "{get}");
    assert!(get.contains("text/plain; version=0.0.4"), "{get}");
    assert!(get.ends_with("\r\n\r\nup 1\n"), "{get}");
    let head = talk(address, b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        head.ends_with("\r\n\r\n") && head.contains("200 OK"),
        "{head}"
    );
    let other = talk(address, b"GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
    let post = talk(
        address,
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
    )
    .await;
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    let garbage = talk(address, b"\x16\x03\x01 no http at all\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    let long = [
        b"GET /metrics HTTP/1.1\r\nX: ".as_slice(),
        &vec![b'a'; 1 << 20],
    ]
    .concat();
    let refused = talk(address, &long).await;
    assert!(!refused.contains("200 OK"), "{refused}");
    // None of these kept the next from being served.
    assert!(
        talk(address, b"GET /metrics HTTP/1.0\r\n\r\n")
            .await
            .contains("up 1")
    );
}

#[tokio::test]
async fn clients_that_say_nothing_wait_their_time_out_and_no_longer() {
    let (address, _cancel) = server().await;
    let mut silent = Vec::new();
    for _ in 0..MOST_CLIENTS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // No place is left until they have timed out.
    let waiting = talk(address, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(waiting.await.contains("up 1"));
}

#[tokio::test]
async fn no_more_clients_are_answered_at_a_time_than_there_are_places() {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (now.clone(), most.clone());
    let page = move || {
        let (now, most) = (counted.clone(), highest.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            "up 1\n".to_owned()
        }
    };
    tokio::spawn(async move { serve(listener, page, &CancellationToken::new()).await });
    let all =
        (0..4 * MOST_CLIENTS).map(|_| talk(address, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"));
    for answer in futures_util::future::join_all(all).await {
        assert!(answer.contains("up 1"), "{answer}");
    }
    assert!(most.load(Ordering::SeqCst) <= MOST_CLIENTS);
}

#[tokio::test]
async fn it_ends_when_it_is_asked_to() {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    serve(listener, || async { String::new() }, &cancel).await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_of() {
    let (address, _cancel) = server().await;
    let error = listen(address).await.unwrap_err();
    use crate::error::Explain;
    assert!(error.to_string().contains(&address.to_string()));
    assert!(error.hint().unwrap().contains("another program"));
}
