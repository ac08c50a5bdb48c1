//! Generic netlink: the kernel assigns the numbers of families when it loads a module.

use netlink_packet_core::{Emitable, ParseableParametrized};
use netlink_packet_generic::GenlHeader;
use netlink_packet_generic::constants::GENL_ID_CTRL;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use rustix::io::Errno;

use crate::{Attributes, KernelError, Socket};

/// The length of `struct genlmsghdr`.
pub const HEADER_LENGTH: usize = 4;

/// Appends the header of a command (`struct genlmsghdr`).
pub fn header(message: &mut Attributes<'_>, command: u8, version: u8) {
    message.raw(&[command, version, 0, 0]);
}

/// Requests the number of a family. If the process has the privilege, the kernel loads the family's
/// module, provided that the module has an alias for the family.
///
/// # Errors
///
/// [`KernelError::NoModule`], which names `module`, if the kernel does not know the family.
pub fn family(
    socket: &mut Socket,
    name: &'static str,
    module: &'static str,
) -> Result<u16, KernelError> {
    let question = GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(name.to_owned())],
    };
    let mut body = vec![0; question.buffer_len()];
    question.emit(&mut body);
    let control = GenlHeader { cmd: u8::from(question.cmd), version: 2 };
    let mut number = None;
    let asked = socket.request(
        "generic netlink family",
        GENL_ID_CTRL,
        |message| {
            header(message, control.cmd, control.version);
            message.raw(&body);
        },
        |_, payload| {
            let attributes = payload.get(HEADER_LENGTH..).unwrap_or_default();
            let answer = GenlCtrl::parse_with_param(attributes, control);
            number = answer.ok().and_then(|answer| {
                answer.nlas.into_iter().find_map(|attribute| match attribute {
                    GenlCtrlAttrs::FamilyId(number) => Some(number),
                    _ => None,
                })
            });
        },
    );
    let missing = KernelError::NoModule { subsystem: name, module };
    match asked {
        Ok(()) => number.ok_or(missing),
        Err(KernelError::Refused { error, .. }) if error.errno == Errno::NOENT => Err(missing),
        Err(error) => Err(error),
    }
}
