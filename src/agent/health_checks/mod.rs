//! Answers the health checks of load balancer Services: opens and closes their ports as Services
//! change.

mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use kube_ipvs_core::model::{Family, HealthCheck, ServiceKey};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::info;
use wanted::{DesiredChecks, Loser};

use super::events::{EventReason, EventRecorder, InvolvedObject, ReportedEvent};
use super::health::Health;
use super::http::{self, Places, ServiceHealth};
use super::listen::BIND_AGAIN;

/// The health checks, for whoever changes them and for whoever answers.
#[derive(Clone, Debug, Default)]
pub(super) struct HealthChecks {
    wanted: watch::Sender<DesiredChecks>,
}

impl HealthChecks {
    /// Takes in what has changed, and where checks are answered from now on.
    pub(super) fn update(
        &self,
        checks: BTreeMap<ServiceKey, Option<HealthCheck>>,
        addresses: Vec<IpAddr>,
    ) {
        self.wanted.send_if_modified(|wanted| wanted.update(checks, addresses));
    }

    /// Answers until `stop` is ready. A port that is not to be had is tried again, and keeps no
    /// other from being answered.
    pub(super) async fn serve(
        &self,
        health: &Arc<Health>,
        notices: &EventRecorder,
        stop: impl Future<Output = ()>,
    ) {
        let mut changes = self.wanted.subscribe();
        let mut servers = Servers {
            checks: self,
            places: Places::default(),
            health,
            notices,
            open: BTreeMap::new(),
            tasks: JoinSet::new(),
            failed: BTreeSet::new(),
            turned_away: BTreeSet::new(),
        };
        let mut stop = pin!(stop);
        loop {
            let (places, losers) = {
                let wanted = changes.borrow_and_update();
                (wanted.places(), wanted.losers())
            };
            servers.follow(&places).await;
            servers.turn_away(losers);
            let again = async {
                if servers.failed.is_empty() {
                    pending().await
                } else {
                    sleep(BIND_AGAIN).await;
                }
            };
            tokio::select! {
                () = &mut stop => return,
                // The sender is ours: it is never gone.
                _ = changes.changed() => {}
                () = again => {}
            }
        }
    }

    fn owner(&self, place: SocketAddr) -> Option<ServiceKey> {
        let wanted = self.wanted.borrow();
        wanted.owner(place.port()).cloned()
    }

    fn answer(&self, port: u16, family: Family, health: &Health) -> Option<ServiceHealth> {
        let wanted = self.wanted.borrow();
        let (service, local_endpoints) = wanted.answer(port, family)?;
        Some(ServiceHealth {
            service: service.clone(),
            local_endpoints,
            is_agent_healthy: health.is_healthy(Instant::now()),
        })
    }
}

/// The listeners.
struct Servers<'a> {
    checks: &'a HealthChecks,
    /// Of all ports together.
    places: Places,
    health: &'a Arc<Health>,
    notices: &'a EventRecorder,
    open: BTreeMap<SocketAddr, AbortHandle>,
    tasks: JoinSet<()>,
    failed: BTreeSet<SocketAddr>,
    /// Who was told that another Service has the port.
    turned_away: BTreeSet<Loser>,
}

impl Servers<'_> {
    /// Listens at these places and no others.
    async fn follow(&mut self, places: &BTreeSet<SocketAddr>) {
        self.failed.retain(|place| places.contains(place));
        let closed: Vec<_> =
            self.open.keys().filter(|place| !places.contains(place)).copied().collect();
        for place in &closed {
            // Connections end with it, as with kube-proxy: what they would be told is not true any
            // more.
            if let Some(server) = self.open.remove(place) {
                server.abort();
            }
        }
        // Their ports are free before others are opened.
        for _ in closed {
            let _ = self.tasks.join_next().await;
        }
        for place in places {
            if !self.open.contains_key(place) {
                self.open(*place).await;
            }
        }
    }

    fn turn_away(&mut self, losers: BTreeSet<Loser>) {
        for Loser { service, port, owner } in losers.difference(&self.turned_away) {
            self.tell(service, format!("health check: Service {owner} has port {port} already"));
        }
        self.turned_away = losers;
    }

    fn tell(&self, service: &ServiceKey, message: String) {
        let (about, reason) =
            (InvolvedObject::Service(service.clone()), EventReason::HealthCheckNotStarted);
        self.notices.tell(ReportedEvent { about, reason, message });
    }

    async fn open(&mut self, place: SocketAddr) {
        match http::bind_family(place).await {
            Ok(listener) => {
                if self.failed.remove(&place) {
                    info!(%place, "health checks are answered at last");
                }
                let (checks, health) = (self.checks.clone(), Arc::clone(self.health));
                let family = Family::of(place.ip());
                let check = move || checks.answer(place.port(), family, &health);
                let server =
                    http::serve_health_check(listener, self.places.clone(), check, pending());
                self.open.insert(place, self.tasks.spawn(server));
            }
            Err(error) => {
                if self.failed.insert(place) {
                    let owner = self.checks.owner(place);
                    if let Some(service) = owner {
                        self.tell(&service, format!("health check: {error}; will be tried again"));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
