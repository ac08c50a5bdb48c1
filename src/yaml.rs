//! What is wrong with a text in YAML, in one line and in an operator's words.

use std::borrow::Cow;

use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

/// Returns what is wrong and where. The library would add an excerpt, which may contain secrets.
pub(crate) fn reason(error: &Error) -> String {
    let place = error.location();
    let mut error = error;
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } =
        error
    {
        error = inner;
    }
    let words = Words.format_message(error);
    match place {
        Some(place) => format!("line {} column {}: {words}", place.line(), place.column()),
        None => words.into_owned(),
    }
}

/// The words of the library, except where they name its types and options.
struct Words;

impl MessageFormatter for Words {
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("duplicate key {key}").into()
            }
            Error::DuplicateMappingKey { key: None, .. } => "duplicate key".into(),
            Error::Budget { .. }
            | Error::AliasReplayCounterOverflow { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. } => {
                "too large, or too much behind its aliases".into()
            }
            other => UserMessageFormatter.format_message(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fmt::Write;

    use serde_json::Value;

    use super::*;

    fn wrong(text: &str) -> String {
        reason(&serde_saphyr::from_str::<Value>(text).unwrap_err())
    }

    #[test]
    fn a_reason_has_a_place_and_no_words_of_the_library() {
        assert_eq!(wrong("a: 1\nb: 2\na: 3\n"), "line 3 column 1: duplicate key a");
        let mut expanding = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let below = format!("*a{}", n - 1);
            writeln!(expanding, "a{n}: &a{n} [{}]", [&*below; 9].join(", ")).unwrap();
        }
        let reason = wrong(&expanding);
        assert!(reason.ends_with(": too large, or too much behind its aliases"), "{reason}");
        assert_eq!(wrong("a: [secret\nb: 2\n").lines().count(), 1);
        assert!(!wrong("a: [secret\nb: 2\n").contains("secret"));
    }
}
