//! JSON as it comes from an API server.

use serde::Deserialize;

/// Parses a text that is UTF-8 as a whole, as JSON is. It is checked at once, which costs a tenth of
/// what checking each string of it does; where it is not, strings that do not matter may be odd.
///
/// # Errors
///
/// If it is no JSON, or not of that shape.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(text) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(text),
    }
}
