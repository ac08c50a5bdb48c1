//! Safe display of external text, and of errors.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write;
use std::iter;

/// What stands before the number of an error that the operating system has, as Rust shows it.
const NUMBER_OF_ERROR: &str = " (os error ";

/// Returns the text on one line without anything that a terminal or log reader would interpret:
/// control characters and changes of the text direction are escaped. Tabs stay. The numbers of errors
/// that follow the operating system's words are left out.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    let text = without_numbers(text);
    if !text.contains(is_obeyed) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_obeyed(letter) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "{}", letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown.into()
}

fn without_numbers(text: &str) -> Cow<'_, str> {
    if !text.contains(NUMBER_OF_ERROR) {
        return text.into();
    }
    let mut parts = text.split(NUMBER_OF_ERROR);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.trim_start_matches(|it: char| it.is_ascii_digit()).strip_prefix(')') {
            Some(rest) => shown.push_str(rest),
            None => shown.extend([NUMBER_OF_ERROR, part]),
        }
    }
    shown.into()
}

/// Returns the same JSON without anything that a terminal would interpret: JSON's own escapes stand for
/// it, so a reader gets the same value. Line breaks between values stay. The numbers of errors are left
/// out, as of [`one_line`].
#[must_use]
pub fn plain_json(mut json: String) -> String {
    if json.contains(NUMBER_OF_ERROR) {
        json = without_numbers(&json).into_owned();
    }
    let is_escaped = |letter| is_obeyed(letter) && letter != '\n';
    if !json.contains(is_escaped) {
        return json;
    }
    let mut plain = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        if is_escaped(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(plain, "\\u{unit:04x}");
            }
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// Returns the longest prefix of at most `most` bytes.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn is_obeyed(letter: char) -> bool {
    let turns = matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2066}'..='\u{2069}');
    turns || (letter.is_control() && letter != '\t')
}

/// Returns the text of an error with its causes, each once: many errors include their causes.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes =
        iter::successors(error.source(), |cause| (*cause).source()).map(ToString::to_string);
    causes.fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (text, expected) in [
            ("default/web:http\tü", "default/web:http\tü"),
            ("a\u{1b}[2Jb\r\nc\0", "a\\u{1b}[2Jb\\r\\nc\\u{0}"),
            ("\u{9b}31m\u{7f}\u{202e}", "\\u{9b}31m\\u{7f}\\u{202e}"),
        ] {
            assert_eq!(one_line(text), expected);
        }
    }

    #[test]
    fn errors_of_the_operating_system_are_in_words() {
        let error = std::io::Error::from_raw_os_error(2);
        let text = format!("a: {error}: b ({error}): (os error x)");
        let words = "a: No such file or directory: b (No such file or directory): (os error x)";
        assert_eq!(one_line(&text), words);
        assert_eq!(plain_json(format!("{text:?}")), format!("{words:?}"));
    }

    #[test]
    fn json_is_escaped_by_its_own_means() {
        let plain = |json: &str| plain_json(json.to_owned());
        assert_eq!(plain("{\n  \"a\": \"ü\"\n}"), "{\n  \"a\": \"ü\"\n}");
        assert_eq!(plain("\"\u{9b}31m\u{7f}\u{202e}\""), r#""\u009b31m\u007f\u202e""#);
    }

    #[test]
    fn a_cut_text_ends_at_a_character() {
        assert_eq!(
            [cut("aü", 1), cut("aü", 2), cut("aü", 3), cut("aü", 9)],
            ["a", "a", "aü", "aü"]
        );
    }

    proptest! {
        #[test]
        fn no_escaped_text_has_control_characters(text in any::<String>()) {
            let shown = one_line(&text);
            prop_assert!(!shown.contains(is_obeyed), "{shown:?}");
            prop_assert_eq!(shown == text, !text.contains(is_obeyed));
        }
    }
}
