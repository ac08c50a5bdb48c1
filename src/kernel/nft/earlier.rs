//! Table `inet kube-ipvs` of an earlier version. Its rules sent new connections to virtual servers
//! at load balancer IPs, external IPs and node addresses.

use kube_ipvs_core::model::{Element, Family, NAME};
use netlink_ipvs::KernelError;

use super::Nft;
use super::list::{self, ListedSet};
use super::request::{DumpKind, delete_table, submit};
use super::table::TableFamily;

/// Its sets of virtual servers, without the number of the family, and the corresponding sets of this
/// version.
const SETS: [(&str, &str); 4] = [
    ("frontends", "former"),
    ("cluster-ips", "pools"),
    ("service-ranges", "service-ranges"),
    ("image-ranges", "service-ranges"),
];

impl Nft {
    /// Returns its virtual servers as elements of this version, or `None` without such a table.
    pub(super) fn earlier(&mut self) -> Result<Option<Vec<Element>>, KernelError> {
        if !self.has_earlier()? {
            return Ok(None);
        }
        let mut elements = Vec::new();
        for (family, number) in Family::BOTH.into_iter().zip(['4', '6']) {
            let table = TableFamily::from(family);
            for (former, today) in SETS {
                let name = format!("{former}{number}");
                elements.extend(self.elements((TableFamily::Inet, &name), (table, today))?);
            }
        }
        Ok(Some(elements))
    }

    fn has_earlier(&mut self) -> Result<bool, KernelError> {
        let sets =
            list::ours(&mut self.socket, DumpKind::Sets, TableFamily::Inet, ListedSet::decode)?;
        Ok(!sets.is_empty())
    }

    /// Deletes its table, if it exists.
    pub fn delete_earlier(&mut self) -> Result<(), KernelError> {
        if !self.has_earlier()? {
            return Ok(());
        }
        submit(&mut self.socket, "nft delete table inet", |batch| {
            delete_table(batch, TableFamily::Inet, NAME);
        })
    }
}
