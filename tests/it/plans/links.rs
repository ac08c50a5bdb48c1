//! Links that a flowtable carries connections from and to.

use kube_ipvs_core::model::{Carry, Event, Link, Settings};

use super::lines;
use crate::common::model_kernel::ModelKernel;
use crate::common::node_agent::NodeAgent;
use crate::common::objects::{node, only_services, only_slices, service_cidrs};

#[test]
fn a_link_that_comes_again_is_a_flowtables_again() {
    let carry = Carry::Offload(vec!["cali*".parse().unwrap()]);
    let settings = Settings { carry, ..Settings::for_node("n1") };
    let mut agent = NodeAgent::new(&settings, ModelKernel::default());
    let links = |index: u32| {
        let link = |(name, index): (&str, _)| Link { name: name.parse().unwrap(), index };
        Event::Links([("cali1", index), ("cali2", 8), ("eth0", 2)].map(link).to_vec())
    };
    agent.tell(node("n1")).tell(service_cidrs(&[])).tell(only_services([])).tell(only_slices([]));
    agent.tell(links(7)).settle().unwrap();
    // It may come again before anybody is told that it has gone.
    agent.tell(links(9));
    let line = |family| {
        format!(
            "nft add flowtable {family} kube-ipvs carried {{ hook ingress priority filter; devices = \
             {{ cali1 }}; }}"
        )
    };
    let expected = format!("+ {}; {}\n", line("ip"), line("ip6"));
    assert_eq!(lines(&agent.settle().unwrap()), expected);
    agent.tell(links(9));
    assert_eq!(lines(&agent.settle().unwrap()), "");
}
