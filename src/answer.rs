//! Agents' answers over HTTP/1.0, which come whole and end with the connection.

use std::time::Duration;

/// Largest answer that is read, in bytes.
pub(crate) const LARGEST_ANSWER: usize = 1 << 30;
/// How long a whole answer may take.
pub(crate) const LONGEST_ANSWER: Duration = Duration::from_secs(120);

/// Status and body; the body must be as long as the head says.
pub(crate) fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let (head, rest) = answer.split_at_checked(end)?;
    let head = std::str::from_utf8(head).ok()?;
    let body = rest.strip_prefix(b"\r\n\r\n")?;
    let (first, headers) = head.split_once("\r\n")?;
    let status = first.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let length = headers.split("\r\n").find_map(|header| {
        let (name, value) = header.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    (length == Some(body.len())).then_some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split() {
        let answer = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
        assert_eq!(split(answer), Some((503, b"busy".as_slice())));
        for broken in [
            "",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\ncut off",
            "HTTP/1.0 200 OK\r\nDate: now\r\n\r\nof no length",
            "HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert_eq!(split(broken.as_bytes()), None, "{broken}");
        }
    }
}
