//! Port-forwards over a WebSocket, in the protocol of `kubectl port-forward`.

use futures_util::{SinkExt, StreamExt};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::answer::Answer;
use super::body::body;

/// Channels of the first port.
const DATA: u8 = 0;
const ERROR: u8 = 1;

/// Switches to the protocol, and forwards `port` to an address until one of both ends.
pub fn switched(mut request: Request<Incoming>, port: u16, to: SocketAddr) -> Answer {
    let accepted = derive_accept_key(request.headers()[SEC_WEBSOCKET_KEY].as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let upgraded = TokioIo::new(upgrade.await.unwrap());
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
        forward(socket, port, to).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accepted)
        .header(SEC_WEBSOCKET_PROTOCOL, "v4.channel.k8s.io")
        .body(body(Bytes::new()))
        .unwrap()
}

async fn forward<S>(mut socket: WebSocketStream<S>, port: u16, to: SocketAddr)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let message = |channel, bytes: &[u8]| Message::binary([&[channel], bytes].concat());
    for channel in [DATA, ERROR] {
        let _ = socket.send(message(channel, &port.to_le_bytes())).await;
    }
    let mut stream = match TcpStream::connect(to).await {
        Ok(stream) => stream,
        Err(error) => {
            let _ = socket.send(message(ERROR, error.to_string().as_bytes())).await;
            let _ = socket.close(None).await;
            return;
        }
    };
    let mut part = vec![0; 4096];
    loop {
        tokio::select! {
            received = socket.next() => match received {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&DATA) => {
                    let _ = stream.write_all(&bytes[1..]).await;
                }
                Some(Ok(_)) => {}
                _ => return,
            },
            read = stream.read(&mut part) => match read {
                Ok(length) if length > 0 => {
                    let _ = socket.send(message(DATA, &part[..length])).await;
                }
                _ => {
                    let _ = socket.close(None).await;
                    return;
                }
            },
        }
    }
}
