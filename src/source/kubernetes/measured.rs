//! Measures the requests of a client, as client-go does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use scopeguard::guard;
use tower::service_fn;

/// A request to the API server that has an answer, or will have none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiRequest<'a> {
    pub method: &'a Method,
    /// The server's host and port as its URL has them.
    pub host: &'a str,
    /// `None` without an answer.
    pub status: Option<StatusCode>,
    /// Until the head of the answer arrived.
    pub took: Duration,
}

/// Gets each request.
pub type ObserveRequest = Arc<dyn Fn(&ApiRequest<'_>) + Send + Sync>;

/// Returns a client that has its requests observed.
pub(super) fn measured(client: Client, host: &str, observe: &ObserveRequest) -> Client {
    let namespace = client.default_namespace().to_owned();
    let (host, observe) = (Arc::<str>::from(host), Arc::clone(observe));
    let send = move |request: Request<Body>| {
        let (client, host, observe) = (client.clone(), Arc::clone(&host), Arc::clone(&observe));
        let (method, start) = (request.method().clone(), Instant::now());
        async move {
            // Observed even if the caller gives up the request.
            let mut status = guard(None, |status| {
                let (method, host, took) = (&method, &*host, start.elapsed());
                observe(&ApiRequest { method, host, status, took });
            });
            let answer = client.send(request).await;
            *status = answer.as_ref().ok().map(Response::status);
            answer
        }
    };
    Client::new(service_fn(send), namespace)
}
