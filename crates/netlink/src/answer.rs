//! The kernel's answer to a request: success, or an error with a message.

use std::fmt;

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED};
use rustix::io::Errno;

use super::error::{errno_name, meaning};
use super::{Header, find};

/// `NLMSGERR_ATTR_MSG`.
const ERROR_TEXT: u16 = 1;

/// An error that the kernel reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetlinkError {
    /// The error number.
    pub errno: Errno,
    /// The kernel's message, if any.
    pub text: Option<String>,
}

impl fmt::Display for NetlinkError {
    /// Formats `ENOENT (No such file or directory)`, with the kernel's own message if it has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match errno_name(self.errno) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "error {}", self.errno.raw_os_error())?,
        }
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => write!(f, " ({})", meaning(self.errno)),
        }
    }
}

/// The answers to a batch, one per request; `None` if the result is not known.
pub type Answers = Vec<Option<Result<(), NetlinkError>>>;

/// Reads the payload of an `NLMSG_ERROR` or `NLMSG_DONE`.
pub(super) fn outcome(header: Header, payload: &[u8]) -> Result<(), NetlinkError> {
    match payload.first_chunk().copied().map_or(0, i32::from_ne_bytes) {
        0 => Ok(()),
        number => Err(NetlinkError {
            errno: Errno::from_raw_os_error(number.saturating_neg().clamp(1, 4095)),
            text: text(header, payload).map(str::to_owned),
        }),
    }
}

fn text(header: Header, payload: &[u8]) -> Option<&str> {
    if header.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // The request's header is echoed, and without NLM_F_CAPPED the whole request.
    let request = payload.get(4..)?;
    let echoed = match header.kind {
        Header::DONE => 0,
        _ if header.flags & NLM_F_CAPPED != 0 => Header::LENGTH,
        _ => u32::from_ne_bytes(*request.first_chunk()?) as usize,
    };
    find(request.get(echoed.checked_next_multiple_of(4)?..)?, ERROR_TEXT)?.text()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Attributes;

    fn error(number: i32, flags: u16, echoed: &[u8], text: &str) -> Result<(), NetlinkError> {
        let mut payload = number.to_ne_bytes().to_vec();
        payload.extend_from_slice(echoed);
        Attributes::new(&mut payload).text(ERROR_TEXT, text);
        outcome(Header { kind: Header::ERROR, flags, sequence: 1, port: 0 }, &payload)
    }

    #[test]
    fn errors_carry_number_and_text() {
        let refused = |text: Option<&str>| {
            Err(NetlinkError { errno: Errno::NOENT, text: text.map(str::to_owned) })
        };
        let header = [0; Header::LENGTH];
        assert_eq!(error(-2, NLM_F_CAPPED | NLM_F_ACK_TLVS, &header, "no"), refused(Some("no")));
        assert_eq!(error(-2, NLM_F_CAPPED, &header, "no"), refused(None));
        assert_eq!(error(0, NLM_F_CAPPED, &header, "no"), Ok(()));
        // Without capping, the whole request comes back: here its header and 8 bytes.
        let mut request = vec![24, 0, 0, 0];
        request.resize(24, 7);
        assert_eq!(error(-2, NLM_F_ACK_TLVS, &request, "no"), refused(Some("no")));
    }

    #[test]
    fn errors_read_well() {
        let text = |number, text: Option<&str>| {
            let errno = Errno::from_raw_os_error(number);
            NetlinkError { errno, text: text.map(str::to_owned) }.to_string()
        };
        assert_eq!(text(3, None), "ESRCH (No such process)");
        assert_eq!(text(22, Some("bad attribute")), "EINVAL (bad attribute)");
        assert_eq!(text(4095, None), "error 4095 (Unknown error 4095)");
    }

    proptest! {
        #[test]
        fn arbitrary_answers_are_read_without_panic(
            kind in 0u16..5,
            flags: u16,
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = outcome(Header { kind, flags, sequence: 0, port: 0 }, &payload);
        }
    }
}
