//! The header of a netlink message (`struct nlmsghdr`), and the messages of a datagram.

/// The header of a netlink message. All numbers are in host byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The type of the message: `NLMSG_*`, or a type of the subsystem.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The sequence number of the request, echoed in the answer.
    pub sequence: u32,
    /// In a notification, the port of the socket that made the change; 0 for a change by the kernel
    /// itself.
    pub port: u32,
}

impl Header {
    /// `NLMSG_ERROR`: an error, or an acknowledgement.
    pub const ERROR: u16 = 2;
    /// `NLMSG_DONE`: the end of a dump.
    pub const DONE: u16 = 3;

    /// The length of the header.
    pub const LENGTH: usize = 16;

    /// Appends the header of a message whose length is set by [`Header::close`].
    pub(super) fn open(self, bytes: &mut Vec<u8>) -> usize {
        let start = bytes.len();
        let [k0, k1] = self.kind.to_ne_bytes();
        let [f0, f1] = self.flags.to_ne_bytes();
        let words =
            [[0; 4], [k0, k1, f0, f1], self.sequence.to_ne_bytes(), self.port.to_ne_bytes()];
        bytes.extend_from_slice(words.as_flattened());
        start
    }

    /// Sets the length of the message from `start` to the end.
    pub(super) fn close(bytes: &mut Vec<u8>, start: usize) {
        let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(field) = bytes.get_mut(start..start + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
}

/// Iterates over the messages of a datagram, as header and payload. Ends at the first truncated
/// message.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let field = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk);
        let header = Header {
            kind: u16::from_ne_bytes(*field(4)?),
            flags: u16::from_ne_bytes(*field(6)?),
            sequence: u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?),
            port: u32::from_ne_bytes(*bytes.get(12..)?.first_chunk()?),
        };
        let payload = bytes.get(Header::LENGTH..length)?;
        bytes = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
        Some((header, payload))
    })
}
