//! Links that a flowtable carries connections from and to.

use kube_ipvs_core::model::{Carry, Event, Link, Settings};

use super::lines;
use crate::common::model_agent::ModelAgent;
use crate::common::model_kernel::ModelKernel;
use crate::common::objects::{node, only_services, only_slices, service_cidrs};

#[test]
fn a_link_that_returns_rejoins_the_flowtable() {
    let carry = Carry::Offload(vec!["cali*".parse().unwrap()]);
    let settings = Settings { carry, ..Settings::for_node("n1") };
    let mut agent = ModelAgent::new(&settings, ModelKernel::default());
    let links = |index: u32| {
        let link = |(name, index): (&str, _)| Link { name: name.parse().unwrap(), index };
        Event::Links([("cali1", index), ("cali2", 8), ("eth0", 2)].map(link).to_vec())
    };
    agent
        .deliver(node("n1"))
        .deliver(service_cidrs(&[]))
        .deliver(only_services([]))
        .deliver(only_slices([]));
    agent.deliver(links(7)).settle().unwrap();
    // A link may return before its end is reported.
    agent.deliver(links(9));
    let line = |family| {
        format!(
            "nft add flowtable {family} kube-ipvs carried {{ hook ingress priority filter; devices = \
             {{ cali1 }}; }}"
        )
    };
    let expected = format!("+ {}; {}\n", line("ip"), line("ip6"));
    assert_eq!(lines(&agent.settle().unwrap()), expected);
    agent.deliver(links(9));
    assert_eq!(lines(&agent.settle().unwrap()), "");
}
