use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;

/// Formats a time in RFC 3339 in UTC with the necessary digits of the second, as Go does.
pub(super) fn rfc3339(time: SystemTime) -> String {
    // Only years beyond 9999 do not fit.
    Timestamp::try_from(time).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn digits_are_as_go_has_them() {
        let at = |nanoseconds| {
            rfc3339(SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, nanoseconds))
        };
        assert_eq!(at(0), "2023-11-14T22:13:20Z");
        assert_eq!(at(120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(at(1), "2023-11-14T22:13:20.000000001Z");
    }
}
