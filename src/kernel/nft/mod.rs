//! Our nf_tables tables: `ip kube-ipvs`, `ip6 kube-ipvs` and `arp kube-ipvs`.
//!
//! The rules are written once, in `ruleset.nft`, and never depend on the Services, which only add
//! and remove elements of named sets and maps. That text yields both what goes to the kernel over
//! netlink and what `nft list table` prints of it.
//!
//! The tables are changed and never replaced: while a table is replaced, connections escape its
//! rules.

mod apply;
mod compile;
pub(crate) mod constants;
mod counters;
mod earlier;
mod element;
mod encode;
mod expression;
mod key;
pub(crate) mod list;
mod notification;
mod observe;
mod request;
mod ruleset;
mod set;
mod table;
mod text;
pub mod trace;
mod transaction;
mod update;

#[cfg(test)]
mod tests;

use kube_ipvs_core::model::Settings;
use netlink_ipvs::{KernelError, Socket, Subsystem};
use rustix::io::Errno;
use table::Table;

use super::family::netfilter_header;

pub use counters::{PACKET_REASONS, PacketCount, packet_counts};
pub(super) use notification::{describe, writer};
#[cfg(test)]
pub(super) use request::message_type;
pub(crate) use request::{delete_table, push, submit};
pub(crate) use table::{BaseChain, TableFamily};
pub use text::render;

/// This program's tables in the network namespace of the process.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    tables: &'static [Table],
}

impl Nft {
    /// Opens nf_tables.
    ///
    /// # Errors
    ///
    /// If the kernel has no nf_tables, or the process lacks CAP_NET_ADMIN.
    pub fn open() -> Result<Self, KernelError> {
        Self::over(Socket::open(Subsystem::Netfilter)?)
    }

    pub(super) fn over(mut socket: Socket) -> Result<Self, KernelError> {
        let generation = socket.request(
            "nf_tables generation",
            request::DumpKind::Generation.kind(),
            |message| netfilter_header(message, 0, 0),
            |_, _| {},
        );
        match generation {
            Ok(()) => Ok(Self { socket, tables: ruleset::tables(&Settings::for_node("")) }),
            // Netfilter's error for a subsystem without a loadable module.
            Err(error) if error.errno() == Some(Errno::INVAL) => {
                Err(KernelError::NoModule { subsystem: "nf_tables", module: "nf_tables" })
            }
            Err(error) => Err(error),
        }
    }

    /// Selects the rules for a configuration.
    #[must_use]
    pub fn configured(self, settings: &Settings) -> Self {
        Self { tables: ruleset::tables(settings), ..self }
    }

    /// Returns the netlink port from which changes are made.
    pub(super) fn port(&self) -> u32 {
        self.socket.port()
    }
}
