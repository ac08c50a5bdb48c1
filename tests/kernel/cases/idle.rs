//! How long IPVS knows a connection on which nothing is sent.

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::lab::Host::N1;

const ESTABLISHED: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";

pub(crate) fn cases() -> Vec<Case> {
    vec![case("idle_connections_live_as_long_as_conntrack_knows_them", |t| {
        t.settled()?;
        let established = t.host(N1).read("cat", &[ESTABLISHED])?;
        t.equal("IPVS's timeout", established.trim().to_owned(), tcp_timeout(t)?)?;
        t.agent().configure_proxy("ipvs: {tcpTimeout: 25m}")?;
        t.settled()?;
        t.equal("IPVS's timeout", "1500".to_owned(), tcp_timeout(t)?)
    })]
}

/// The first of `Timeout (tcp tcpfin udp): 900 120 300`.
fn tcp_timeout(t: &TestContext<'_>) -> Step<String> {
    let line = t.host(N1).read("ipvsadm", &["-l", "--timeout"])?;
    let times = line.split_once("): ").map(|(_, times)| times.split(' '));
    let tcp = times.and_then(|mut times| times.next());
    t.check("timeouts of IPVS", tcp.is_some(), &line)?;
    Ok(tcp.unwrap_or_default().to_owned())
}
