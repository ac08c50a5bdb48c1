//! Answers as text or as JSON.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use super::TextFormat;

/// Prints an answer in the form asked for.
pub(super) fn print(form: TextFormat, answer: &(impl Display + Serialize)) -> anyhow::Result<()> {
    let text = match form {
        TextFormat::Text => answer.to_string(),
        TextFormat::Json => serde_json::to_string_pretty(answer)?,
    };
    writeln!(io::stdout(), "{}", text.trim_end())?;
    Ok(())
}
