//! Applications: one that answers with the request it got, and one that tells the bytes it got.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

/// Answers every request with its own head as body; `/cookies` also sets cookies, `/socket` switches protocols.
pub async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

pub async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let connection = CONNECTIONS.fetch_add(1, Ordering::SeqCst);
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read_buf(&mut bytes).await {
                Ok(1..) => {}
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes.drain(..end);
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        while bytes.len() < length.unwrap_or(0) {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        bytes.drain(..length.unwrap_or(0));
        let head = format!("{head}body: {}\nconnection: {connection}\n", length.unwrap_or(0));
        let path = head.split(' ').nth(1).unwrap_or("/");
        if path == "/socket" {
            let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(switch.as_bytes()).await.unwrap();
            let mut buffer = [0; 256];
            while let Ok(some @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..some]).await.is_err() {
                    return;
                }
            }
            return;
        }
        let cookies = match path {
            "/cookies" => {
                "Set-Cookie: app=1; Path=/\r\nSet-Cookie: __Host-sluice=stolen; Path=/; Secure\r\n\
                           Set-Cookie: =__host-SLUICE=x\r\nAlt-Svc: h3=\":1\"\r\n"
            }
            _ => "",
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{cookies}\r\n{head}", head.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Answers every connection with the first bytes it got, in hex, and closes it.
pub async fn start_raw() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut first = [0; 64];
            if stream.read_exact(&mut first).await.is_ok() {
                let text: String = first.iter().map(|byte| format!("{byte:02x}")).collect();
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        }
    });
    address
}
