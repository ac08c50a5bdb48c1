//! Table `inet kube-ipvs` of an earlier version. Its rules sent new connections to virtual servers
//! at load balancer IPs, external IPs and node addresses.

use kube_ipvs_core::model::{Element, Family};
use netlink_ipvs::{Batch, KernelError};

use super::list::ListedSet;
use super::request::{DumpKind, message_type, transaction};
use super::table::TableFamily;
use super::{Nft, encode};
use crate::kernel::family::netfilter_header;

/// `NFT_MSG_DELTABLE`
const DELETE_TABLE: u16 = 2;
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
        let sets = self.list(DumpKind::Sets, TableFamily::Inet, ListedSet::decode)?;
        if sets.is_empty() {
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

    /// Deletes its table, if it exists.
    pub fn delete_earlier(&mut self) -> Result<(), KernelError> {
        if self.list(DumpKind::Sets, TableFamily::Inet, ListedSet::decode)?.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        transaction(&mut batch, |batch| {
            batch.push(message_type(DELETE_TABLE), 0, |message| {
                netfilter_header(message, TableFamily::Inet.number(), 0);
                encode::table_name(message);
            });
        });
        // The kernel numbers the request that begins the transaction 0.
        match self.socket.transact(&mut batch, 1)?.into_iter().flatten().find_map(Result::err) {
            Some(error) => Err(KernelError::refused("nft delete table inet", error)),
            None => Ok(()),
        }
    }
}
