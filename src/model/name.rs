//! Shared strings: node names, zones and port names occur thousands of times.

use rustc_hash::FxHashSet;

use super::{Shared, Topology};

/// An immutable string that is cheap to copy.
pub type Name = Shared<str>;

/// Hands out one shared copy per distinct string and topology.
///
/// Entries are never dropped: it is meant for the names of nodes, zones and ports, whose number
/// is bounded by the cluster, not by its churn.
#[derive(Default, Debug)]
pub struct Interner {
    names: FxHashSet<Name>,
    topologies: FxHashSet<Shared<Topology>>,
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

    /// The shared copy of a topology.
    pub fn share(&mut self, topology: Topology) -> Shared<Topology> {
        if let Some(shared) = self.topologies.get(&topology) {
            return Shared::clone(shared);
        }
        let shared = Shared::from(topology);
        self.topologies.insert(Shared::clone(&shared));
        shared
    }
}
