//! What an earlier version had: a table `inet kube-ipvs`, whose rules led new connections to virtual
//! servers at load balancer IPs, external IPs and node addresses.

use kube_ipvs_core::model::{Element, Family};
use netlink_ipvs::{Attributes, Batch, KernelError};

use super::element::ElementReader;
use super::existing::{self, ExistingSet};
use super::request::{DumpKind, header, message_type, transaction};
use super::table::TableFamily;
use super::{Nft, encode};

/// `NFPROTO_INET`
const INET: u8 = 1;
/// `NFT_MSG_DELTABLE`
const DELETE_TABLE: u16 = 2;
/// The sets that named its virtual servers, each without the number of its family; and those that do
/// today.
const SETS: [(&str, &str); 4] = [
    ("frontends", "former"),
    ("cluster-ips", "pools"),
    ("service-ranges", "service-ranges"),
    ("image-ranges", "service-ranges"),
];

impl Nft {
    /// What its table says of its virtual servers, in the elements that say so today; `None` where
    /// there is no such table.
    pub(super) fn earlier(&mut self) -> Result<Option<Vec<Element>>, KernelError> {
        let sets =
            self.list(DumpKind::Sets, INET, encode::table_name, |sets: &mut Vec<_>, payload| {
                sets.extend(ExistingSet::decode(payload));
            })?;
        if sets.is_empty() {
            return Ok(None);
        }
        let mut elements = Vec::new();
        for (family, number) in Family::BOTH.into_iter().zip(['4', '6']) {
            let table = TableFamily::from(family);
            for (former, today) in SETS {
                let name = format!("{former}{number}");
                let body = |message: &mut Attributes<'_>| encode::elements_of(message, &name);
                let read = |reader: &mut ElementReader, payload: &[u8]| {
                    existing::elements(payload).for_each(|raw| reader.read(table, today, &raw));
                };
                let reader = self.list(DumpKind::Elements, INET, body, read)?;
                elements.extend(reader.finish(table, today));
            }
        }
        Ok(Some(elements))
    }

    /// Removes its table, if it is there.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn delete_earlier(&mut self) -> Result<(), KernelError> {
        let sets =
            self.list(DumpKind::Sets, INET, encode::table_name, |found: &mut bool, payload| {
                *found |= ExistingSet::decode(payload).is_some();
            })?;
        if !sets {
            return Ok(());
        }
        let mut batch = Batch::default();
        transaction(&mut batch, |batch| {
            batch.push(message_type(DELETE_TABLE), 0, |message| {
                header(message, INET, 0);
                encode::table_name(message);
            });
        });
        // The request that begins the transaction is numbered 0.
        match self.socket.transact(&mut batch, 1)?.into_iter().flatten().find_map(Result::err) {
            Some(error) => Err(KernelError::refused("nft delete table inet", error)),
            None => Ok(()),
        }
    }
}
