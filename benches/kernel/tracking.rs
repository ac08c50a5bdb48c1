//! The cost of counting the connections of draining endpoints, which happens at most once a second.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use kube_ipvs::kernel::Kernel;
use kube_ipvs_core::model::Protocol;
use kube_ipvs_core::plan::CountTargets;

use crate::cluster::{Size, events};
use crate::figure::Figure;
use crate::namespace::{on_node, sysctl};
use crate::work::{engine, settle};
use crate::{ROUNDS, Result};

/// Entries of connection tracking: datagrams to this many hosts of the node's network, at this many
/// ports.
const HOSTS: u8 = 250;
const PORTS: u16 = 4_000;

pub(crate) fn counts() -> Result<Vec<Figure>> {
    // The limit applies to all namespaces; only the initial one may set it.
    let entries = u32::from(HOSTS) * u32::from(PORTS);
    sysctl(&format!("net.netfilter.nf_conntrack_max={}", 2 * entries))?;
    fs::write("/sys/module/nf_conntrack/parameters/hashsize", entries.to_string())?;
    let [ours, baseline] = on_node(|| {
        sysctl("net.netfilter.nf_conntrack_udp_timeout=86400")?;
        let mut kernel = Kernel::open()?;
        settle(&mut engine(events(Size { services: 10, slices: 1, endpoints: 1 })), &mut kernel)?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for host in 2..2 + HOSTS {
            for port in 1..=PORTS {
                socket.send_to(b"x", (Ipv4Addr::new(192, 0, 2, host), port))?;
            }
        }
        let backend = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 2), 1));
        let mut count = |protocol| -> Result<f64> {
            let backends = [(protocol, backend)].into_iter().collect();
            let targets = CountTargets { backends, ..CountTargets::default() };
            let mut least = Duration::MAX;
            for _ in 0..ROUNDS {
                let start = Instant::now();
                let found = kernel.conntrack.count(&targets)?.len();
                least = least.min(start.elapsed());
                if found != usize::from(protocol == Protocol::Udp) {
                    return Err(format!("{found} connections of {protocol}").into());
                }
            }
            Ok(least.as_secs_f64() * 1e3)
        };
        Ok([count(Protocol::Udp)?, count(Protocol::Sctp)?])
    })?;
    let what = "counting an endpoint's connections among 1,000,000 entries of its protocol; \
                baseline as many of another protocol";
    Ok(vec![Figure::new("count_1000000", what, "ms", ours, baseline)])
}
