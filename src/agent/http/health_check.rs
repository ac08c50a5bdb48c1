//! The answers on a `healthCheckNodePort`, as in kube-proxy: load balancers read the status and
//! some of them the weight; the body is for people.

use std::future::{Future, ready};
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use kube_ipvs_core::model::ServiceKey;
use tokio::net::TcpListener;

use super::places::Places;
use super::routes::{JSON, not_found, respond, status};
use super::server::{Answer, LIMITS, serve};

/// The number of endpoints behind this node, for load balancers.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceHealth {
    pub service: ServiceKey,
    pub local_endpoints: usize,
    pub is_agent_healthy: bool,
}

/// Answers health checks with any method and path until `stop` is ready. The servers of all ports
/// share `places`. `check` returns the current health, or `None` if the port is about to be closed.
pub async fn serve_health_check(
    listener: TcpListener,
    places: Arc<Places>,
    check: impl Fn() -> Option<ServiceHealth> + Clone + Send + 'static,
    stop: impl Future<Output = ()>,
) {
    let handle =
        move |_: Request<Incoming>| ready(check().map_or_else(not_found, |health| answer(&health)));
    serve(listener, places, LIMITS, handle, stop).await;
}

fn answer(health: &ServiceHealth) -> Answer {
    let success = health.local_endpoints > 0 && health.is_agent_healthy;
    let mut answer = respond(status(success), JSON, body(health));
    answer.headers_mut().insert(WEIGHT, HeaderValue::from(health.local_endpoints));
    answer
}

/// Byte for byte as kube-proxy writes it, because scripts may search for a line of it.
fn body(health: &ServiceHealth) -> String {
    let ServiceHealth { service, local_endpoints, is_agent_healthy } = health;
    format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {:?},\n\t\t\"name\": {:?}\n\t}},\n\t\
         \"localEndpoints\": {local_endpoints},\n\t\"serviceProxyHealthy\": {is_agent_healthy}\n}}",
        service.namespace(),
        service.name(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(local_endpoints: usize, is_agent_healthy: bool) -> ServiceHealth {
        let service = ServiceKey::new("default", "web");
        ServiceHealth { service, local_endpoints, is_agent_healthy }
    }

    #[test]
    fn body_is_kube_proxys() {
        let expected = r#"{
	"service": {
		"namespace": "default",
		"name": "web"
	},
	"localEndpoints": 2,
	"serviceProxyHealthy": true
}"#;
        assert_eq!(body(&health(2, true)), expected);
    }

    #[test]
    fn only_a_healthy_node_with_endpoints_is_to_be_used() {
        for (endpoints, healthy, status) in
            [(1, true, 200), (0, true, 503), (1, false, 503), (0, false, 503)]
        {
            let answer = answer(&health(endpoints, healthy));
            assert_eq!(answer.status(), status, "{endpoints} {healthy}");
            let header = |name: &str| answer.headers().get(name).and_then(|it| it.to_str().ok());
            assert_eq!(header("content-type"), Some("application/json"));
            assert_eq!(header("x-content-type-options"), Some("nosniff"));
            let weight = endpoints.to_string();
            assert_eq!(header("x-load-balancing-endpoint-weight"), Some(weight.as_str()));
        }
    }
}
