//! What has gone through Services.

use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::model::{ServiceKey, VirtualAddress};
use netlink_ipvs::ipvs::Traffic as ServerTraffic;
use rustc_hash::FxHashMap;

/// What has gone through Services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceTraffic {
    /// Each of the first Services by name, with what has gone through its virtual servers.
    pub services: Vec<(ServiceKey, ServerTraffic)>,
    /// How many more there are.
    pub left_out: usize,
}

/// What has gone through at most so many Services, of what has gone through all virtual servers.
pub(in crate::agent) fn traffic(
    programs: &DesiredState,
    servers: &[(VirtualAddress, ServerTraffic)],
    most: usize,
) -> ServiceTraffic {
    let servers: FxHashMap<_, _> = servers.iter().copied().collect();
    let mut keys: Vec<_> = programs.services().map(|(service, _)| service).collect();
    keys.sort_unstable();
    let left_out = keys.len().saturating_sub(most);
    let of_service = |service: &&ServiceKey| {
        let mut total = ServerTraffic::default();
        for pool in programs.service(service).into_iter().flat_map(|program| &program.pools) {
            if let Some(traffic) = servers.get(&pool.server.address) {
                total += *traffic;
            }
        }
        (ServiceKey::clone(service), total)
    };
    ServiceTraffic { services: keys.iter().take(most).map(of_service).collect(), left_out }
}
