//! Checks that the API server is reachable without Services, which only the agent makes work.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Duration;
use std::{iter, mem, slice};

use ipnet::IpNet;
use kube_ipvs_core::model::{Change, Event, Service, Settings};
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use super::client::{ApiAccess, Clients, configure};
use super::connect_error::ConnectError;
use super::{Timeouts, WatchStep, run};

/// The interval at which the API server's addresses are resolved.
pub const FIND_AGAIN: Duration = Duration::from_secs(30);
/// The timeout for resolving a name, and for the requests of a check.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The configured API server: one server, or several equivalent ones, each with the host in its URL
/// and its resolved addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server(Vec<(String, Vec<SocketAddr>)>);

/// The API server is reached through a Service.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the API server is configured at {server}, which {what}: Services work only after the \
     agent has read them from the API server; set --master, or `server` in the kubeconfig, to \
     the server's own address or its load balancer"
)]
pub struct ThroughService {
    pub server: String,
    pub what: String,
}

impl Server {
    /// Resolves the addresses of the API server and of its proxies.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid.
    pub async fn find(access: &ApiAccess) -> Result<Self, ConnectError> {
        let (_, upstreams) = configure(access).await?;
        let urls = upstreams.into_iter().flat_map(|(server, proxy)| {
            iter::once(server).chain(proxy.map(|proxy| proxy.uri().clone()))
        });
        let mut places = Vec::new();
        for url in urls {
            let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let default = if url.scheme_str() == Some("http") { 80 } else { 443 };
            let sockets = resolve(&host, url.port_u16().unwrap_or(default)).await;
            places.push((host, sockets));
        }
        Ok(Self(places))
    }

    fn is_resolved(&self) -> bool {
        self.0.iter().all(|(_, sockets)| !sockets.is_empty())
    }

    pub fn sockets(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.0.iter().flat_map(|(_, sockets)| sockets).copied()
    }

    /// Checks the name, and the addresses against service ranges.
    ///
    /// # Errors
    ///
    /// If the API server is reached through a Service.
    pub fn check<'a>(
        &self,
        ranges: impl IntoIterator<Item = &'a IpNet> + Clone,
    ) -> Result<(), ThroughService> {
        if let Some((host, _)) = self.0.iter().find(|(host, _)| is_name_of_service(host)) {
            let what = "is the name of the Service default/kubernetes".to_owned();
            return Err(ThroughService { server: host.clone(), what });
        }
        self.check_addresses(|ip| {
            let range = ranges.clone().into_iter().find(|range| range.contains(&ip))?;
            Some(format!("lies in the service range {range}"))
        })
    }

    fn check_event(&self, event: &Event) -> Result<(), ThroughService> {
        match event {
            Event::ServiceCidrs(Change::Apply(object)) => self.check(&object.cidrs),
            Event::ServiceCidrs(Change::Replace(objects)) => {
                self.check(objects.iter().flat_map(|object| &object.cidrs))
            }
            Event::Service(Change::Apply(service)) => self.check_services(slice::from_ref(service)),
            Event::Service(Change::Replace(services)) => self.check_services(services),
            _ => Ok(()),
        }
    }

    fn check_services(&self, services: &[Service]) -> Result<(), ThroughService> {
        self.check_addresses(|ip| {
            let service = services.iter().find(|service| service.cluster_ips.contains(&ip))?;
            Some(format!("is the ClusterIP of Service {}", service.key))
        })
    }

    /// Checks each address. `through` describes the way through a Service.
    fn check_addresses(
        &self,
        through: impl Fn(IpAddr) -> Option<String>,
    ) -> Result<(), ThroughService> {
        for (host, sockets) in &self.0 {
            if let Some(what) = sockets.iter().find_map(|socket| through(socket.ip())) {
                return Err(ThroughService { server: host.clone(), what });
            }
        }
        Ok(())
    }
}

fn is_name_of_service(host: &str) -> bool {
    let mut labels = host.trim_end_matches('.').split('.');
    let (service, namespace, kind) = (labels.next(), labels.next(), labels.next());
    service == Some("kubernetes")
        && matches!(namespace, None | Some("default"))
        && matches!(kind, None | Some("svc"))
}

/// Resolves the API server's addresses periodically, because its name may get other addresses and
/// the kubeconfig may name another server. Delivers changed addresses together with the first and
/// the previous ones, whose connections may still be in use. Ends once `deliver` breaks.
pub async fn follow_server(
    access: &ApiAccess,
    first: &Server,
    again: Duration,
    deliver: impl Fn(Event) -> ControlFlow<()>,
) {
    let first: BTreeSet<_> = first.sockets().collect();
    let mut known = first.clone();
    loop {
        sleep(again).await;
        // A failed resolution does not mean that the address is gone.
        let Ok(server) = Server::find(access).await else { continue };
        let found: BTreeSet<_> = server.sockets().collect();
        if found == known || !server.is_resolved() {
            continue;
        }
        let before = mem::replace(&mut known, found);
        let all = &(&known | &before) | &first;
        if deliver(Event::ApiServers(all.into_iter().collect())).is_break() {
            return;
        }
    }
}

/// Works like [`run`], for a server that must not be reached through a Service. An event that shows
/// this is not delivered.
///
/// # Errors
///
/// If the API server is reached through a Service.
pub async fn follow(
    server: &Server,
    clients: Clients,
    settings: &Settings,
    timeouts: Timeouts,
    deliver: impl Fn(Event) -> ControlFlow<()>,
    note: impl Fn(&'static str, WatchStep),
) -> Result<(), ThroughService> {
    let refusal = OnceCell::new();
    let deliver = |event: Event| match server.check_event(&event) {
        Ok(()) => deliver(event),
        Err(error) => {
            let _ = refusal.set(error);
            ControlFlow::Break(())
        }
    };
    run(clients, settings, timeouts, deliver, note).await;
    refusal.into_inner().map_or(Ok(()), Err)
}

async fn resolve(host: &str, port: u16) -> Vec<SocketAddr> {
    let canonical = |ip: IpAddr| SocketAddr::new(ip.to_canonical(), port);
    if let Ok(ip) = host.parse() {
        return vec![canonical(ip)];
    }
    match timeout(LOOKUP_TIMEOUT, lookup_host((host, 0))).await {
        Ok(Ok(found)) => found.map(|address| canonical(address.ip())).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str) -> Server {
        let place = |host: &str| {
            let ip: Option<IpAddr> = host.parse().ok();
            (host.to_owned(), ip.map(|ip| SocketAddr::new(ip, 6443)).into_iter().collect())
        };
        Server(vec![place("198.51.100.1"), place(host)])
    }

    #[test]
    fn a_service_of_this_program_is_not_used_to_reach_the_server() {
        let ranges: [IpNet; 2] =
            ["10.96.0.0/12", "fd00:10:96::/112"].map(|range| range.parse().expect("range"));
        let cases = [
            ("10.96.0.1", Some("lies in the service range 10.96.0.0/12")),
            ("fd00:10:96::1", Some("lies in the service range fd00:10:96::/112")),
            ("kubernetes.default.svc", Some("is the name of the Service default/kubernetes")),
            ("kubernetes.default.svc.cluster.local.", Some("is the name of the Service")),
            ("kubernetes", Some("is the name of the Service")),
            ("192.0.2.10", None),
            ("kubernetes.example.com", None),
            ("api.cluster.example", None),
        ];
        for (host, expected) in cases {
            let refusal = server(host).check(&ranges).err();
            match expected {
                None => assert_eq!(refusal, None, "{host}"),
                Some(what) => {
                    let text = refusal.map(|refusal| refusal.to_string()).unwrap_or_default();
                    assert!(text.contains(&format!("at {host}, which {what}")), "{text}");
                    assert!(text.contains("set --master"), "{text}");
                }
            }
        }
    }
}
