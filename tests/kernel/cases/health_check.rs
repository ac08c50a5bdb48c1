//! Load balancers ask whether this node has endpoints, and get no further than that.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs::client::{AgentClient, AgentError};

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::Refused;
use crate::lab::Host::{self, C, N1, P1, P2, P3};
use crate::lab::{ServiceBuilder, endpoints, product, service};

/// How long the agent may take to open or close a port once the kernel is up to date.
const PATIENCE: Duration = Duration::from_secs(30);

/// The node's own addresses.
const V4: &str = "192.168.50.1:32123";
const V6: &str = "[fd00:50::1]:32123";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("only_the_node_may_ask_for_metrics_and_status", |t| {
            t.settled()?;
            let asked = |host, address: &str, path| {
                let address: SocketAddr = address.parse().expect("address");
                t.host(host)
                    .inside(|| AgentClient::new(address).get(path))
                    .map_err(io::Error::other)
            };
            for path in ["/metrics", "/status", "/configz"] {
                asked(N1, "127.0.0.1:10249", path)?;
            }
            for (client, node) in product([P2, P3, C, N1], ["192.168.50.1", "10.244.1.1"]) {
                t.expect(client, &format!("{node}:10249/tcp"), Refused)?;
                // Every client may use the probes.
                asked(client, &format!("{node}:10256"), "/livez")?;
            }
            t.expect(P2, "[fd00:50::1]:10249/tcp", Refused)
        }),
        case("clients_addresses_are_for_the_node_alone", |t| {
            t.agent().configure("")?;
            t.agent().reconfigure("", "metricsBindAddress: 0.0.0.0:10249")?;
            t.apply(service("dev/asked").cluster_ip("10.96.8.9").port("http", 80))?;
            t.apply(endpoints("dev/asked").port("http", 8080).ready_on(P1))?;
            t.settled()?;
            let asked = |host: Host, path| {
                let address: SocketAddr = "192.168.50.1:10249".parse().expect("address");
                t.host(host).inside(|| AgentClient::new(address).get(path))
            };
            let connections = "/connections?namespace=dev&name=asked";
            for client in [C, P2] {
                asked(client, "/status").map_err(io::Error::other)?;
                let refused = asked(client, connections);
                let is_forbidden = matches!(refused, Err(AgentError::Refused { status: 403, .. }));
                t.check(&format!("{client} learns nothing"), is_forbidden, format!("{refused:?}"))?;
            }
            asked(N1, connections).map_err(io::Error::other)?;
            Ok(())
        }),
        case("no_service_leads_to_clients_addresses", |t| no_service_leads_there(t, "")),
        case("no_carried_service_leads_to_clients_addresses", |t| {
            no_service_leads_there(t, "carry: all")
        }),
        case("health_checks_are_answered_on_the_node_alone", |t| {
            let web = service("dev/checked").cluster_ip("10.96.8.1").cluster_ip("fd00:96::801");
            let web = checked(web, 31_081);
            t.apply(web.clone())?;
            t.apply(endpoints("dev/checked").port("http", 8080).ready_on(P3))?;
            t.settled()?;
            until(t, V4, Some(503))?;
            until(t, V6, Some(503))?;
            t.apply(
                endpoints("dev/checked").port("http", 8080).ready_on(P1).ready_on(P2).ready_on(P3),
            )?;
            t.settled()?;
            let body = until(t, V4, Some(200))?;
            t.check("both local endpoints count", body.contains("\"localEndpoints\": 2,"), &body)?;
            // Of endpoints of its own family it has none.
            until(t, V6, Some(503))?;

            // At the Service's own addresses it is a port like any other.
            for client in [P2, N1, C] {
                t.expect(client, "10.96.8.1:32123/tcp", Refused)?;
                t.expect(client, "[fd00:96::801]:32123/tcp", Refused)?;
            }
            t.delete(web)?;
            t.settled()?;
            until(t, V4, None)?;

            // A Service of one family is answered for at every address of the node.
            let web = checked(service("dev/single").cluster_ip("10.96.8.2"), 31_082);
            t.apply(web.clone())?;
            t.apply(endpoints("dev/single").port("http", 8080).ready_on(P1))?;
            t.settled()?;
            until(t, V4, Some(200))?;
            until(t, V6, Some(200))?;
            t.delete(web)?;
            t.settled()?;
            until(t, V6, None)?;
            Ok(())
        }),
    ]
}

/// The Service with a port, behind a load balancer that asks for its health.
fn checked(service: ServiceBuilder, node_port: u16) -> ServiceBuilder {
    let service = service.port("http", 80).node_port(node_port).spec("type", "LoadBalancer");
    service.local_external().spec("healthCheckNodePort", 32_123)
}

/// Waits until an external client gets this status; `None` if no process listens. Returns the body.
fn until(t: &TestContext<'_>, place: &str, expected: Option<u16>) -> Step<String> {
    let address: SocketAddr = place.parse().expect("address");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, text) = match t.host(C).inside(|| AgentClient::new(address).get("/")) {
            Ok(body) => (Some(200), String::from_utf8_lossy(&body).into_owned()),
            Err(AgentError::Refused { status, message, .. }) => (Some(status), message),
            Err(error) => (None, error.to_string()),
        };
        if status == expected {
            return Ok(text);
        }
        let what = format!("health check at {place} answered with {expected:?}");
        t.check(&what, Instant::now() < deadline, format!("{status:?}: {text}"))?;
        thread::sleep(Duration::from_millis(20));
    }
}

/// A Service with the node's own metrics address as its endpoint: masqueraded connections come from the
/// node.
fn no_service_leads_there(t: &mut TestContext<'_>, options: &str) -> Step {
    t.agent().configure(options)?;
    t.agent().reconfigure("", "metricsBindAddress: 0.0.0.0:10249")?;
    let lure = service("dev/lure").cluster_ip("10.96.8.10").load_balancer_ip("203.0.113.181");
    t.apply(lure.port("http", 80).node_port(30_189))?;
    t.apply(endpoints("dev/lure").port("http", 10249).ready("192.168.50.1", "n1"))?;
    t.settled()?;
    for client in [C, P1, P2] {
        for to in ["10.96.8.10:80", "203.0.113.181:80", "192.168.50.1:30189"] {
            if client == C && to == "10.96.8.10:80" {
                continue;
            }
            let address: SocketAddr = to.parse().expect("address");
            let path = "/connections?namespace=dev&name=lure";
            let answer = t.host(client).inside(|| AgentClient::new(address).get(path));
            let is_forbidden = matches!(answer, Err(AgentError::Refused { status: 403, .. }));
            t.check(
                &format!("{client} learns nothing at {to}"),
                is_forbidden,
                format!("{answer:?}"),
            )?;
        }
    }
    Ok(())
}
