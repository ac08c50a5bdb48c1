//! Shared values: names of nodes, zones and ports, topologies and lists of ports that occur
//! thousands of times.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{EndpointPort, Shared, Topology};

/// An immutable string that is cheap to copy.
pub type Name = Shared<str>;

/// The least number of bytes to add before unused entries are removed.
const LEAST_ADDED: usize = 64 << 10;

/// Returns one shared copy per distinct string, topology and list of ports.
///
/// Unused entries are removed in time: they never take more than the used entries plus a small
/// amount. Otherwise users who may write objects could fill the memory with names.
#[derive(Default, Debug)]
pub struct Interner {
    names: FxHashSet<Name>,
    topologies: FxHashSet<Shared<Topology>>,
    /// Topologies without hints, by node: most endpoints have no hints.
    unhinted: FxHashMap<Name, Shared<Topology>>,
    ports: FxHashSet<Shared<[EndpointPort]>>,
    /// Bytes added since the last sweep.
    added: usize,
    /// Bytes in use at the last sweep.
    used: usize,
}

impl Interner {
    /// Returns the shared copy of `text`.
    pub fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.names.get(text) {
            return Name::clone(name);
        }
        self.make_room(size_of_name(text));
        let name = Name::from(text);
        self.names.insert(Name::clone(&name));
        name
    }

    /// Returns the shared topology of endpoints on a node without hints.
    pub fn on_node(&mut self, node: &str, zone: Option<&str>) -> Shared<Topology> {
        if let Some(shared) = self.unhinted.get(node).filter(|it| it.zone.as_deref() == zone) {
            return Shared::clone(shared);
        }
        let node = self.intern(node);
        let zone = zone.map(|zone| self.intern(zone));
        let topology = Topology { node: Some(Name::clone(&node)), zone, ..Topology::default() };
        let shared = self.share(topology);
        self.unhinted.insert(node, Shared::clone(&shared));
        shared
    }

    /// Returns the shared copy of a topology.
    pub fn share(&mut self, topology: Topology) -> Shared<Topology> {
        if let Some(shared) = self.topologies.get(&topology) {
            return Shared::clone(shared);
        }
        self.make_room(size_of_topology(&topology));
        let shared = Shared::from(topology);
        self.topologies.insert(Shared::clone(&shared));
        shared
    }

    /// Returns the shared copy of a list of ports.
    pub fn share_ports(&mut self, ports: &[EndpointPort]) -> Shared<[EndpointPort]> {
        if let Some(shared) = self.ports.get(ports) {
            return Shared::clone(shared);
        }
        self.make_room(size_of_ports(ports));
        let shared: Shared<[_]> = ports.into();
        self.ports.insert(Shared::clone(&shared));
        shared
    }

    /// Accounts for `size` more bytes, and sweeps if it is time.
    fn make_room(&mut self, size: usize) {
        self.added += size;
        // Each added byte pays for the sweep of one kept byte.
        if self.added > self.used.max(LEAST_ADDED) {
            self.sweep();
            self.added = size;
        }
    }

    fn sweep(&mut self) {
        let Self { names, topologies, unhinted, ports, .. } = self;
        // One copy is here and one in `topologies`.
        unhinted.retain(|_, topology| topology.copies() > 2);
        // The remaining topologies and ports hold names.
        topologies.retain(|topology| topology.copies() > 1);
        ports.retain(|ports| ports.copies() > 1);
        names.retain(|name| name.copies() > 1);
        self.used = names.iter().map(|name| size_of_name(name)).sum::<usize>()
            + topologies.iter().map(|topology| size_of_topology(topology)).sum::<usize>()
            + ports.iter().map(|ports| size_of_ports(ports)).sum::<usize>();
    }
}

/// The cost of an entry besides its value: reference counts and its slot in a set.
const OVERHEAD: usize = 48;

fn size_of_name(name: &str) -> usize {
    OVERHEAD + name.len()
}

fn size_of_topology(topology: &Topology) -> usize {
    let hints = topology.for_nodes.len() + topology.for_zones.len();
    // A topology without hints is also in `unhinted`.
    2 * OVERHEAD + size_of::<Topology>() + hints * size_of::<Name>()
}

fn size_of_ports(ports: &[EndpointPort]) -> usize {
    OVERHEAD + size_of_val(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    #[test]
    fn equal_names_are_shared() {
        let mut names = Interner::default();
        assert!(Shared::is_same(&names.intern("n1"), &names.intern("n1")));
        assert!(Shared::is_same(&names.on_node("n1", None), &names.on_node("n1", None)));
        assert_ne!(names.on_node("n1", None), names.on_node("n2", None));
        let same = Topology::clone(&names.on_node("n1", None));
        assert!(Shared::is_same(&names.on_node("n1", None), &names.share(same)));
        let node = names.on_node("n1", None).node.clone();
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

    type Slice = ([Shared<Topology>; 2], Shared<[EndpointPort]>);

    fn slice(names: &mut Interner, text: &str) -> Slice {
        let on_node = names.on_node(text, None);
        let for_zones = (0..3).map(|zone| names.intern(&format!("{text}-{zone}"))).collect();
        let hinted = names.share(Topology { for_zones, ..Topology::default() });
        let ports: Vec<_> = (1..200)
            .map(|port| {
                let name = names.intern(&format!("{text}-port-{port}"));
                EndpointPort { name, protocol: Protocol::Tcp, port }
            })
            .collect();
        ([on_node, hinted], names.share_ports(&ports))
    }

    fn counts(names: &Interner) -> [usize; 4] {
        let Interner { names, topologies, unhinted, ports, .. } = names;
        [names.len(), topologies.len(), unhinted.len(), ports.len()]
    }

    #[test]
    fn unused_names_are_dropped() {
        let mut names = Interner::default();
        let stays: Vec<_> = (0..10).map(|n| slice(&mut names, &format!("stays-{n}"))).collect();
        let mut changes = slice(&mut names, "change");
        names.sweep();
        let (before, used) = (counts(&names), names.used);
        let mut most = 0;
        for round in 0..1000 {
            changes = slice(&mut names, &format!("change-{round}"));
            most = most.max(names.names.len());
        }
        assert_eq!(&*changes.1[0].name, "change-999-port-1");
        // The entries in use, the slack, and the slice in the making.
        assert!(most <= 2 * before[0] + LEAST_ADDED / OVERHEAD + before[0], "{most} {before:?}");
        names.sweep();
        assert_eq!(counts(&names), before);
        assert!(names.used.abs_diff(used) < used / 10, "{} {used}", names.used);
        let [on_node, _] = &stays[3].0;
        assert!(Shared::is_same(on_node, &names.on_node("stays-3", None)), "what is in use stays");
    }
}
