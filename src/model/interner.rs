//! Shared values: names of nodes, zones and ports, places and lists of ports occur thousands of
//! times.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{EndpointPort, Shared, Topology};

/// An immutable string that is cheap to copy.
pub type Name = Shared<str>;

/// Hands out one shared copy per distinct string, topology and list of ports.
///
/// Entries are never dropped: it is meant for what the cluster bounds in number, not its churn.
#[derive(Default, Debug)]
pub struct Interner {
    names: FxHashSet<Name>,
    topologies: FxHashSet<Shared<Topology>>,
    /// Those of them without hints, by node: most endpoints have none.
    unhinted: FxHashMap<Name, Shared<Topology>>,
    ports: FxHashSet<Shared<[EndpointPort]>>,
}

impl Interner {
    /// The shared copy of `text`.
    pub fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.names.get(text) {
            return Name::clone(name);
        }
        let name = Name::from(text);
        self.names.insert(Name::clone(&name));
        name
    }

    /// The shared topology of endpoints on a node that have no hints.
    pub fn on_node(&mut self, node: &str) -> Shared<Topology> {
        if let Some(shared) = self.unhinted.get(node) {
            return Shared::clone(shared);
        }
        let node = self.intern(node);
        let topology = Topology { node: Some(Name::clone(&node)), ..Topology::default() };
        let shared = self.share(topology);
        self.unhinted.insert(node, Shared::clone(&shared));
        shared
    }

    /// The shared copy of a topology.
    pub fn share(&mut self, topology: Topology) -> Shared<Topology> {
        if let Some(shared) = self.topologies.get(&topology) {
            return Shared::clone(shared);
        }
        let shared = Shared::from(topology);
        self.topologies.insert(Shared::clone(&shared));
        shared
    }

    /// The shared copy of a list of ports.
    pub fn share_ports(&mut self, ports: &[EndpointPort]) -> Shared<[EndpointPort]> {
        if let Some(shared) = self.ports.get(ports) {
            return Shared::clone(shared);
        }
        let shared: Shared<[_]> = ports.into();
        self.ports.insert(Shared::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    #[test]
    fn what_is_equal_is_shared() {
        let mut names = Interner::default();
        assert!(Shared::is_same(&names.intern("n1"), &names.intern("n1")));
        assert!(Shared::is_same(&names.on_node("n1"), &names.on_node("n1")));
        assert_ne!(names.on_node("n1"), names.on_node("n2"));
        let same = Topology::clone(&names.on_node("n1"));
        assert!(Shared::is_same(&names.on_node("n1"), &names.share(same)));
        let node = names.on_node("n1").node.clone();
        assert!(node.as_ref().is_some_and(|node| Shared::is_same(node, &names.intern("n1"))));
        let mut hinted = || {
            let for_zones = [names.intern("z1")].into();
            names.share(Topology { node: node.clone(), for_zones, ..Topology::default() })
        };
        assert!(Shared::is_same(&hinted(), &hinted()));
        assert_eq!(&*hinted().for_zones, ["z1".into()]);
        let mut ports = |port| {
            let name = names.intern("http");
            names.share_ports(&[EndpointPort { name, protocol: Protocol::Tcp, port }])
        };
        assert!(Shared::is_same(&ports(80), &ports(80)));
        assert_ne!(ports(80), ports(81));
    }
}
