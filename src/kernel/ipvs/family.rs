//! The number of the IPVS family, which the kernel hands out when the module is loaded.

use netlink_packet_core::{Emitable, ParseableParametrized};
use netlink_packet_generic::GenlHeader;
use netlink_packet_generic::constants::GENL_ID_CTRL;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use rustix::io::Errno;

use super::constants::NAME;
use crate::kernel::modules;
use crate::kernel::netlink::{KernelError, Socket};

/// Length of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// Whether an error may mean that the kernel does not know the family's number: the module was
/// unloaded, and loaded anew under another number.
pub(super) fn may_be_renewed(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::OPNOTSUPP)
}

/// Asks for the family's number, and has the kernel load the module where this process may.
pub(super) fn resolve(socket: &mut Socket) -> Result<u16, KernelError> {
    match number(socket) {
        // Before Linux 5.16 the module has no alias by which the kernel finds it for the family.
        Err(KernelError::NoModule { module, .. }) => {
            modules::load(module);
            number(socket)
        }
        answer => answer,
    }
}

/// Asks for the family's number. That alone makes the kernel load the module since Linux 5.16.
fn number(socket: &mut Socket) -> Result<u16, KernelError> {
    let question = GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(NAME.to_owned())],
    };
    let mut body = vec![0; question.buffer_len()];
    question.emit(&mut body);
    let header = GenlHeader { cmd: u8::from(question.cmd), version: 2 };
    let mut number = None;
    let asked = socket.request(
        "generic netlink family IPVS",
        GENL_ID_CTRL,
        |message| {
            message.raw(&[header.cmd, header.version, 0, 0]);
            message.raw(&body);
        },
        |_, payload| {
            let attributes = payload.get(GENERIC_HEADER..).unwrap_or_default();
            let answer = GenlCtrl::parse_with_param(attributes, header);
            number = answer.ok().and_then(|answer| {
                answer.nlas.into_iter().find_map(|attribute| match attribute {
                    GenlCtrlAttrs::FamilyId(number) => Some(number),
                    _ => None,
                })
            });
        },
    );
    let missing = KernelError::NoModule { subsystem: "IPVS", module: "ip_vs" };
    match asked {
        Ok(()) => number.ok_or(missing),
        Err(KernelError::Refused { error, .. }) if error.errno == Errno::NOENT => Err(missing),
        Err(error) => Err(error),
    }
}
