//! Generic netlink: the kernel assigns the numbers of families when it loads a module.

use rustix::io::Errno;

use crate::{Attributes, KernelError, Socket, find};

/// The length of `struct genlmsghdr`.
pub const HEADER_LENGTH: usize = 4;
/// `GENL_ID_CTRL`, the family that knows the others.
const CONTROL: u16 = 16;
const CONTROL_VERSION: u8 = 2;
/// `CTRL_CMD_GETFAMILY`
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`
const FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`
const FAMILY_NAME: u16 = 2;

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
    let mut number = None;
    let asked = socket.request(
        "generic netlink family",
        CONTROL,
        |message| {
            header(message, GET_FAMILY, CONTROL_VERSION);
            message.text(FAMILY_NAME, name);
        },
        |_, payload| {
            let attributes = payload.get(HEADER_LENGTH..).unwrap_or_default();
            number = find(attributes, FAMILY_ID).and_then(|id| id.u16());
        },
    );
    match asked {
        Err(error) if error.errno() != Some(Errno::NOENT) => Err(error),
        _ => number.ok_or(KernelError::NoModule { subsystem: name, module }),
    }
}
