//! The desired health checks and their addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::{Family, HealthCheck, ServiceKey};

#[derive(Debug, Default)]
pub(in crate::agent) struct HealthChecks {
    addresses: Vec<IpAddr>,
    checks: BTreeMap<ServiceKey, HealthCheck>,
    /// The API server allocates a port to one Service only; manifests on disk may use it for
    /// several.
    services: BTreeMap<u16, BTreeSet<ServiceKey>>,
}

impl HealthChecks {
    /// Applies the changes and returns whether an address must be opened or closed.
    pub(in crate::agent) fn update(
        &mut self,
        checks: BTreeMap<ServiceKey, Option<HealthCheck>>,
        addresses: Vec<IpAddr>,
    ) -> bool {
        let mut moved = self.addresses != addresses;
        self.addresses = addresses;
        for (service, check) in checks {
            let old = match check {
                Some(check) => self.checks.insert(service.clone(), check),
                None => self.checks.remove(&service),
            };
            if old.map(|old| old.port) == check.map(|check| check.port) {
                continue;
            }
            moved = true;
            if let Some(old) = old {
                self.take_port(old.port, &service);
            }
            if let Some(check) = check {
                self.services.entry(check.port).or_default().insert(service);
            }
        }
        moved
    }

    pub(super) fn places(&self) -> BTreeSet<SocketAddr> {
        let mut places = BTreeSet::new();
        for ip in &self.addresses {
            places.extend(self.services.keys().map(|port| SocketAddr::new(*ip, *port)));
        }
        places
    }

    /// Returns the Service of a port and its number of endpoints on this node.
    pub(super) fn answer(&self, port: u16, family: Family) -> Option<(&ServiceKey, usize)> {
        let service = self.owner(port)?;
        Some((service, *family.pick(&self.checks.get(service)?.local_endpoints)))
    }

    /// Returns the Services whose port another Service owns, each with a message.
    pub(super) fn conflicts(&self) -> BTreeSet<(ServiceKey, String)> {
        let mut conflicts = BTreeSet::new();
        for (port, services) in &self.services {
            let mut services = services.iter();
            let Some(owner) = services.next() else { continue };
            let message = format!("health check: Service {owner} already has port {port}");
            conflicts.extend(services.map(|service| (service.clone(), message.clone())));
        }
        conflicts
    }

    pub(super) fn owner(&self, port: u16) -> Option<&ServiceKey> {
        self.services.get(&port)?.first()
    }

    fn take_port(&mut self, port: u16, service: &ServiceKey) {
        if let Some(services) = self.services.get_mut(&port) {
            services.remove(service);
            if services.is_empty() {
                self.services.remove(&port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceKey {
        ServiceKey::new("default", name)
    }

    fn check(name: &str, port: u16, v4: usize) -> BTreeMap<ServiceKey, Option<HealthCheck>> {
        let check = HealthCheck { port, local_endpoints: [v4, v4] };
        BTreeMap::from([(service(name), Some(check))])
    }

    #[test]
    fn a_changed_count_alone_moves_no_listener() {
        let addresses: Vec<IpAddr> = ["192.0.2.1", "::"].map(|ip| ip.parse().expect("ip")).into();
        let mut desired = HealthChecks::default();
        assert!(desired.update(check("web", 32_000, 0), addresses.clone()));
        assert!(!desired.update(check("web", 32_000, 3), addresses.clone()));
        assert_eq!(desired.answer(32_000, Family::V4), Some((&service("web"), 3)));
        assert_eq!(desired.answer(32_000, Family::V6), Some((&service("web"), 3)));
        let places = ["192.0.2.1:32000", "[::]:32000"].map(|place| place.parse().expect("place"));
        assert_eq!(desired.places(), places.into());

        assert!(desired.update(check("web", 32_001, 3), addresses.clone()));
        assert_eq!(desired.answer(32_000, Family::V4), None);
        assert!(desired.update(BTreeMap::from([(service("web"), None)]), addresses));
        assert_eq!(desired.places(), BTreeSet::new());
    }

    #[test]
    fn the_first_of_two_services_gets_a_health_check_port() {
        let mut desired = HealthChecks::default();
        desired.update(check("b", 32_000, 1), Vec::new());
        desired.update(check("a", 32_000, 2), Vec::new());
        assert_eq!(desired.answer(32_000, Family::V4), Some((&service("a"), 2)));
        let conflict = "health check: Service default/a already has port 32000".to_owned();
        assert_eq!(desired.conflicts(), [(service("b"), conflict)].into());
        desired.update(BTreeMap::from([(service("a"), None)]), Vec::new());
        assert_eq!(desired.answer(32_000, Family::V4), Some((&service("b"), 1)));
    }
}
