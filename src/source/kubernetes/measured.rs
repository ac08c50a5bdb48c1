//! Measures the requests of a client, as client-go does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode};
use kube::Client;
use kube::client::Body;
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
        let client = client.clone();
        let measure = Measure {
            observe: Arc::clone(&observe),
            host: Arc::clone(&host),
            method: request.method().clone(),
            start: Instant::now(),
            status: None,
        };
        async move {
            // All of it, to be dropped with the request.
            let mut measure = measure;
            let answer = client.send(request).await;
            measure.status = answer.as_ref().ok().map(http::Response::status);
            answer
        }
    };
    Client::new(service_fn(send), namespace)
}

/// A request under way. The caller may give it up at any time.
struct Measure {
    observe: ObserveRequest,
    host: Arc<str>,
    method: Method,
    start: Instant,
    status: Option<StatusCode>,
}

impl Drop for Measure {
    fn drop(&mut self) {
        (self.observe)(&ApiRequest {
            method: &self.method,
            host: &self.host,
            status: self.status,
            took: self.start.elapsed(),
        });
    }
}
