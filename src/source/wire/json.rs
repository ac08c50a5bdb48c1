//! Parsing of JSON from an API server.

use serde::Deserialize;

/// Parses JSON. The whole text is checked for UTF-8 first, at a tenth of the cost of checking each
/// string. If that fails, unused strings may still be invalid UTF-8.
///
/// # Errors
///
/// If the text is not JSON, or does not have this shape.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(text) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(text),
    }
}
