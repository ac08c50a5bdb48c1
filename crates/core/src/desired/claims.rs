//! Who has a front end that several Services ask for.

use std::collections::BTreeSet;
use std::mem;

use rustc_hash::FxHashMap;

use crate::model::{Right, ServiceKey, VirtualAddress};

/// A Service's wish for a front end. The least claim wins: by right before anything else, then the
/// Service that was created first, then the name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    /// By what right.
    pub right: Right,
    /// The Service's creation, in Unix seconds.
    pub created: i64,
    /// The Service.
    pub service: ServiceKey,
}

/// Who has which front end. Each change costs the same, however many ask for it.
#[derive(Debug, Default)]
pub struct Claims {
    owners: FxHashMap<VirtualAddress, Claim>,
    /// Claims that lost, where there are any.
    others: FxHashMap<VirtualAddress, BTreeSet<Claim>>,
}

impl Claims {
    /// Adds a claim. Returns the Service that loses the front end by it.
    pub fn add(&mut self, address: VirtualAddress, claim: Claim) -> Option<ServiceKey> {
        let Some(owner) = self.owners.get_mut(&address) else {
            self.owners.insert(address, claim);
            return None;
        };
        let wins = claim < *owner;
        let loser = if wins { mem::replace(owner, claim) } else { claim };
        let lost = wins.then(|| loser.service.clone());
        self.others.entry(address).or_default().insert(loser);
        lost
    }

    /// Takes a claim back. Returns the Service that gains the front end by it.
    pub fn remove(&mut self, address: VirtualAddress, claim: &Claim) -> Option<ServiceKey> {
        let others = self.others.get_mut(&address);
        let mut gained = None;
        if self.owners.get(&address) == Some(claim) {
            match others.and_then(BTreeSet::pop_first) {
                Some(heir) => {
                    gained = Some(heir.service.clone());
                    self.owners.insert(address, heir);
                }
                None => drop(self.owners.remove(&address)),
            }
        } else if let Some(others) = others {
            others.remove(claim);
        }
        if self.others.get(&address).is_some_and(BTreeSet::is_empty) {
            self.others.remove(&address);
        }
        gained
    }

    /// The Service that has a front end.
    #[must_use]
    pub fn owner(&self, address: &VirtualAddress) -> Option<&Claim> {
        self.owners.get(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(right: Right, created: i64, name: &str) -> Claim {
        Claim { right, created, service: ServiceKey::new("ns", name) }
    }

    #[test]
    fn the_winner_does_not_depend_on_the_order() {
        let address: VirtualAddress = "192.0.2.1:80".parse().expect("address");
        let key = |name| Some(ServiceKey::new("ns", name));
        let claims = [
            claim(Right::Written, 1, "oldest"),
            claim(Right::Granted, 5, "younger"),
            claim(Right::Granted, 3, "older"),
            claim(Right::Cluster, 9, "cluster"),
        ];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let mut book = Claims::default();
            for index in order {
                book.add(address, claims[index].clone());
            }
            let owner = |book: &Claims| book.owner(&address).map(|c| c.service.clone());
            assert_eq!(owner(&book), key("cluster"));
            assert_eq!(book.remove(address, &claims[3]), key("older"));
            assert_eq!(book.remove(address, &claims[1]), None);
            assert_eq!(book.remove(address, &claims[2]), key("oldest"));
            assert_eq!(book.add(address, claims[1].clone()), key("oldest"));
            assert_eq!(book.add(address, claims[2].clone()), key("younger"));
            for index in [0, 2] {
                book.remove(address, &claims[index]);
            }
            assert_eq!(owner(&book), key("younger"));
            assert_eq!(book.remove(address, &claims[1]), None);
            assert_eq!(book.owner(&address), None);
        }
    }
}
