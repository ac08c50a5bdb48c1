//! Connections.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::answer::answer;
use super::state::Shared;

pub struct Serving {
    pub shared: Arc<Shared>,
    pub acceptor: Option<TlsAcceptor>,
}

impl Serving {
    /// Takes connections for ever.
    pub async fn run(self, listener: std::net::TcpListener) {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let mut connection = self.shared.connection();
            if self.shared.read(|state| state.faults.outage) {
                continue;
            }
            let shared = Arc::clone(&self.shared);
            let acceptor = self.acceptor.clone();
            tokio::spawn(async move {
                let answers = async {
                    match acceptor {
                        None => serve(shared, stream, false).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(shared, stream, true).await;
                            }
                        }
                    }
                };
                tokio::select! {
                    () = answers => {}
                    () = connection.broken() => {}
                }
            });
        }
    }
}

async fn serve<S>(shared: Arc<Shared>, stream: S, is_secured: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(shared, request, is_secured).await) }
    });
    // A client that goes away is no concern of the server's.
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.with_upgrades().await;
}
