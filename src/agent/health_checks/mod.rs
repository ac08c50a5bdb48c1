//! Answers the health checks of load balancer Services. Ports are opened and closed as Services
//! change.

mod desired;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use kube_ipvs_core::model::{Family, ServiceKey};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::info;

use super::events::{EventReason, EventRecorder, InvolvedObject, ReportedEvent};
use super::health::Health;
use super::http::{self, Places, ServiceHealth};
use super::servers::BIND_AGAIN;

pub(super) use desired::HealthChecks;

/// Answers for as long as it is polled. A port that cannot be opened is retried and does not affect
/// others.
pub(super) async fn serve(
    checks: watch::Sender<HealthChecks>,
    health: &Arc<Health>,
    notices: &EventRecorder,
) {
    let mut changes = checks.subscribe();
    let mut servers = Servers {
        checks: changes.clone(),
        places: Arc::default(),
        health,
        notices,
        open: BTreeMap::new(),
        tasks: JoinSet::new(),
        failed: BTreeSet::new(),
        reported_conflicts: BTreeSet::new(),
    };
    loop {
        let (places, conflicts) = {
            let checks = changes.borrow_and_update();
            (checks.places(), checks.conflicts())
        };
        servers.follow(&places).await;
        servers.report_conflicts(conflicts);
        let again = async {
            if servers.failed.is_empty() {
                pending().await
            } else {
                sleep(BIND_AGAIN).await;
            }
        };
        tokio::select! {
            // This function keeps a sender.
            _ = changes.changed() => {}
            () = again => {}
        }
    }
}

struct Servers<'a> {
    checks: watch::Receiver<HealthChecks>,
    /// Shared by all ports.
    places: Arc<Places>,
    health: &'a Arc<Health>,
    notices: &'a EventRecorder,
    open: BTreeMap<SocketAddr, AbortHandle>,
    tasks: JoinSet<()>,
    failed: BTreeSet<SocketAddr>,
    /// Services that were informed that another Service owns the port.
    reported_conflicts: BTreeSet<(ServiceKey, String)>,
}

impl Servers<'_> {
    /// Listens on exactly these addresses.
    async fn follow(&mut self, places: &BTreeSet<SocketAddr>) {
        self.failed.retain(|place| places.contains(place));
        let closed: Vec<_> =
            self.open.keys().filter(|place| !places.contains(place)).copied().collect();
        for place in &closed {
            // Open connections are closed, too, as in kube-proxy: their answers would be outdated.
            if let Some(server) = self.open.remove(place) {
                server.abort();
            }
        }
        // The closed ports are free before others are opened.
        for _ in closed {
            let _ = self.tasks.join_next().await;
        }
        for place in places {
            if !self.open.contains_key(place) {
                self.open(*place).await;
            }
        }
    }

    fn report_conflicts(&mut self, conflicts: BTreeSet<(ServiceKey, String)>) {
        for (service, message) in conflicts.difference(&self.reported_conflicts) {
            self.report(service, message.clone());
        }
        self.reported_conflicts = conflicts;
    }

    fn report(&self, service: &ServiceKey, message: String) {
        let (about, reason) =
            (InvolvedObject::Service(service.clone()), EventReason::HealthCheckNotStarted);
        self.notices.report(ReportedEvent { about, reason, message });
    }

    async fn open(&mut self, place: SocketAddr) {
        match http::bind_family(place).await {
            Ok(listener) => {
                if self.failed.remove(&place) {
                    info!(%place, "health checks are answered now");
                }
                let (checks, health) = (self.checks.clone(), Arc::clone(self.health));
                let family = Family::of(place.ip());
                let check = move || {
                    let is_agent_healthy = health.is_healthy(Instant::now());
                    let checks = checks.borrow();
                    let (service, local_endpoints) = checks.answer(place.port(), family)?;
                    let service = service.clone();
                    Some(ServiceHealth { service, local_endpoints, is_agent_healthy })
                };
                let server =
                    http::serve_health_check(listener, Arc::clone(&self.places), check, pending());
                self.open.insert(place, self.tasks.spawn(server));
            }
            Err(error) => {
                if self.failed.insert(place) {
                    let owner = self.checks.borrow().owner(place.port()).cloned();
                    if let Some(service) = owner {
                        self.report(&service, format!("health check: {error}; will be retried"));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
