//! Ownership of front ends that several Services claim.

use std::collections::BTreeSet;
use std::mem;

use rustc_hash::FxHashMap;

use crate::model::{Right, ServiceKey, VirtualAddress};

/// A Service's claim to a front end. The least claim wins: by precedence, then by creation time,
/// then by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    pub right: Right,
    /// In Unix seconds.
    pub created: i64,
    pub service: ServiceKey,
}

/// The owners of the front ends. The cost of a change does not depend on the number of claims.
#[derive(Debug, Default)]
pub struct Claims {
    owners: FxHashMap<VirtualAddress, Claim>,
    /// Losing claims, if any.
    others: FxHashMap<VirtualAddress, BTreeSet<Claim>>,
}

impl Claims {
    /// Adds a claim and returns the Service that loses the front end to it.
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

    /// Removes a claim and returns the Service that gains the front end.
    pub fn remove(&mut self, address: VirtualAddress, claim: &Claim) -> Option<ServiceKey> {
        let others = self.others.get_mut(&address);
        let mut gained = None;
        if self.owners.get(&address) == Some(claim) {
            match others.and_then(BTreeSet::pop_first) {
                Some(next) => {
                    gained = Some(next.service.clone());
                    self.owners.insert(address, next);
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

    /// Returns the claim of the Service that owns a front end.
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
            let mut claimed = Claims::default();
            for index in order {
                claimed.add(address, claims[index].clone());
            }
            let owner = |claimed: &Claims| claimed.owner(&address).map(|c| c.service.clone());
            assert_eq!(owner(&claimed), key("cluster"));
            assert_eq!(claimed.remove(address, &claims[3]), key("older"));
            assert_eq!(claimed.remove(address, &claims[1]), None);
            assert_eq!(claimed.remove(address, &claims[2]), key("oldest"));
            assert_eq!(claimed.add(address, claims[1].clone()), key("oldest"));
            assert_eq!(claimed.add(address, claims[2].clone()), key("younger"));
            for index in [0, 2] {
                claimed.remove(address, &claims[index]);
            }
            assert_eq!(owner(&claimed), key("younger"));
            assert_eq!(claimed.remove(address, &claims[1]), None);
            assert_eq!(claimed.owner(&address), None);
        }
    }
}
