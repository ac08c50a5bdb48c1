//! Durations as Go writes them: `1h30m`, `10s`, `500ms`, `0`.

use std::time::Duration;

/// What a duration looks like.
pub(super) const EXAMPLES: &str = "a duration such as 30s, 5m or 1h30m";

/// Reads a duration in Go's syntax. Negative ones mean nothing here.
///
/// # Errors
///
/// Says what a duration looks like.
pub fn parse(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?} is not {EXAMPLES}");
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    if trimmed.is_empty() {
        return Err(error());
    }
    if trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{trimmed} has no unit: write {trimmed}s"));
    }
    if trimmed.strip_prefix('-').is_some_and(|rest| parse(rest).is_ok()) {
        return Err(format!("{trimmed} must not be negative"));
    }
    let mut rest = trimmed;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(error()),
        };
        let number: f64 = number.parse().map_err(|_| error())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| error())?;
        total = total.checked_add(part).ok_or_else(error)?;
        rest = tail;
    }
    // Go counts nanoseconds in 64 bits. A point in time so far away still exists.
    match i64::try_from(total.as_nanos()) {
        Ok(_) => Ok(total),
        Err(_) => Err(format!("{trimmed} is longer than 2562047h")),
    }
}

/// Writes a duration as Go would.
pub(super) fn format(duration: Duration) -> String {
    let (seconds, milliseconds) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 && milliseconds != 0 {
        return format!("{milliseconds}ms");
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let seconds = match milliseconds {
        0 => format!("{seconds}s"),
        _ => format!("{seconds}.{milliseconds:03}s"),
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        let cases = [("0s", 0), ("0", 0), ("30s", 30_000), ("24h0m0s", 86_400_000), ("1.5s", 1500)];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert!(parse("2562047h47m").is_ok());
        for text in ["", "5", "-1s", "1x", "s", "1s ", "999999999999999999999h"] {
            assert_eq!(parse(text).is_ok(), text == "1s ", "{text:?}");
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_said() {
        let cases = [
            ("30", "30 has no unit: write 30s"),
            ("-1m30s", "-1m30s must not be negative"),
            ("-x", "\"-x\" is not a duration such as 30s, 5m or 1h30m"),
            ("5124095576030150h", "5124095576030150h is longer than 2562047h"),
            ("", "\"\" is not a duration such as 30s, 5m or 1h30m"),
        ];
        for (text, reason) in cases {
            assert_eq!(parse(text).unwrap_err(), reason);
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases = [(0, "0s"), (500, "500ms"), (1500, "1.500s"), (90_000, "1m30s")];
        for (milliseconds, text) in cases {
            assert_eq!(format(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(format(Duration::from_secs(24 * 3600)), "24h0m0s");
    }
}
