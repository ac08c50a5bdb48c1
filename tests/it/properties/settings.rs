//! Random configurations.

use kube_ipvs_core::model::{Carry, Interfaces, LocalDetector, NodePortAddresses, Settings};
use proptest::prelude::*;
use proptest::sample::select;

use crate::common::objects::net;

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let detector = select(vec![
        LocalDetector::None,
        LocalDetector::NodeCidr,
        LocalDetector::ClusterCidr(vec![net("10.244.0.0/16")]),
        LocalDetector::Interfaces(Interfaces::Named("cni0".parse().unwrap())),
    ]);
    let node_ports = select(vec![
        NodePortAddresses::Primary,
        NodePortAddresses::Ranges(vec![net("192.0.2.0/24")]),
    ]);
    let one_packet = any::<bool>();
    (detector, node_ports, carry(), prop::bool::weighted(0.1), one_packet).prop_map(
        |(local_detector, node_port_addresses, carry, masquerade_all, one_packet_everywhere)| {
            Settings {
                local_detector,
                node_port_addresses,
                carry,
                masquerade_all,
                one_packet_everywhere,
                ..Settings::for_node("n1")
            }
        },
    )
}

/// Who carries connections.
pub(crate) fn carry() -> impl Strategy<Value = Carry> {
    select(vec![
        Carry::FrontEnds,
        Carry::All,
        Carry::Offload(vec!["eth0".parse().unwrap(), "cali*".parse().unwrap()]),
    ])
}
