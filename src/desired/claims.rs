//! Who has a front end that several Services ask for.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::model::{FrontendKind, ServiceKey, VirtualAddress};

/// A Service's wish for a front end. The least claim wins: a ClusterIP before anything else, then
/// the older Service, then the name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    /// What kind of address the Service asks for.
    pub kind: FrontendKind,
    /// The Service's creation, in Unix seconds.
    pub created: i64,
    /// The Service.
    pub service: ServiceKey,
}

/// Who has which front end.
#[derive(Debug, Default)]
pub struct Claims {
    owners: FxHashMap<VirtualAddress, Claim>,
    /// Claims that lost, where there are any.
    others: FxHashMap<VirtualAddress, BTreeSet<Claim>>,
}

impl Claims {
    /// Adds a claim. Returns the Services that another than before keeps from the front end.
    pub fn add(&mut self, address: VirtualAddress, claim: Claim) -> Vec<ServiceKey> {
        let Some(owner) = self.owners.get_mut(&address) else {
            self.owners.insert(address, claim);
            return Vec::new();
        };
        let others = self.others.entry(address).or_default();
        if claim < *owner {
            others.insert(std::mem::replace(owner, claim));
            others.iter().map(|other| other.service.clone()).collect()
        } else {
            others.insert(claim);
            Vec::new()
        }
    }

    /// Takes a claim back. Returns the Services that gain the front end or that another than
    /// before keeps from it.
    pub fn remove(&mut self, address: VirtualAddress, claim: &Claim) -> Vec<ServiceKey> {
        let others = self.others.get_mut(&address);
        let mut affected = Vec::new();
        if self.owners.get(&address) == Some(claim) {
            affected.extend(others.iter().flat_map(|all| all.iter()).map(|it| it.service.clone()));
            match others.and_then(BTreeSet::pop_first) {
                Some(heir) => self.owners.insert(address, heir),
                None => self.owners.remove(&address),
            };
        } else if let Some(others) = others {
            others.remove(claim);
        }
        if self.others.get(&address).is_some_and(BTreeSet::is_empty) {
            self.others.remove(&address);
        }
        affected
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

    fn claim(kind: FrontendKind, created: i64, name: &str) -> Claim {
        Claim { kind, created, service: ServiceKey::new("ns", name) }
    }

    #[test]
    fn the_winner_does_not_depend_on_the_order() {
        let address: VirtualAddress = "192.0.2.1:80".parse().expect("address");
        let claims = [
            claim(FrontendKind::ExternalIp, 5, "younger"),
            claim(FrontendKind::ExternalIp, 3, "older"),
            claim(FrontendKind::ClusterIp, 9, "cluster"),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut book = Claims::default();
            for index in order {
                book.add(address, claims[index].clone());
            }
            let owner = |book: &Claims| book.owner(&address).map(|c| c.service.name().to_owned());
            assert_eq!(owner(&book).as_deref(), Some("cluster"));
            let affected = book.remove(address, &claims[2]);
            assert_eq!(affected, ["older", "younger"].map(|name| ServiceKey::new("ns", name)));
            assert_eq!(book.remove(address, &claims[0]), []);
            assert_eq!(owner(&book).as_deref(), Some("older"));
            assert_eq!(book.add(address, claims[2].clone()), [ServiceKey::new("ns", "older")]);
            book.remove(address, &claims[2]);
            book.remove(address, &claims[1]);
            assert_eq!(book.owner(&address), None);
        }
    }
}
