//! What is printed. Nothing that comes from outside is obeyed by a terminal, or forges a line.

use std::fmt::Display;
use std::io::{self, Write};

use anstyle::AnsiColor;
use kube_ipvs_core::model::{one_line, plain_json};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::TextFormat;

/// Prints an answer in the form asked for.
pub(super) fn print(
    form: TextFormat,
    answer: &(impl Display + Serialize + DeserializeOwned),
) -> anyhow::Result<()> {
    let text = match form {
        TextFormat::Text => coloured(&shown(answer)?.to_string()),
        TextFormat::Json => pretty_json(answer)?,
    };
    writeln!(anstream::stdout(), "{}", text.trim_end())?;
    Ok(())
}

/// Prints several answers: a list in JSON, and an empty line between them in text.
pub(super) fn print_all(
    form: TextFormat,
    answers: &[impl Display + Serialize + DeserializeOwned],
) -> anyhow::Result<()> {
    let text = match form {
        TextFormat::Text => {
            let all: Result<Vec<_>, _> =
                answers.iter().map(|it| shown(it).map(|it| it.to_string())).collect();
            all?.join("\n")
        }
        TextFormat::Json => pretty_json(&answers)?,
    };
    writeln!(io::stdout(), "{}", text.trim_end())?;
    Ok(())
}

/// Returns JSON of many lines.
pub(super) fn pretty_json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(plain_json)
}

/// Returns JSON on one line.
pub(super) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(plain_json)
}

/// Colours the words with which lines begin. The standard output shows colours on a terminal alone, and
/// not with `NO_COLOR`.
pub(super) fn coloured(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let (word, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
        let colour = match word {
            "ok" | "answered:" | "+" => AnsiColor::Green,
            "warn" | "unanswered:" | "~" => AnsiColor::Yellow,
            "fail" | "failed" | "refused:" | "dropped:" | "gone:" | "-" => AnsiColor::Red,
            _ => return line.to_owned(),
        };
        let style = colour.on_default();
        format!("{style}{word}{style:#}{rest}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Prints one line.
pub(super) fn line(mut out: impl Write, line: impl Display) -> io::Result<()> {
    writeln!(out, "{}", one_line(&line.to_string()))
}

/// Prints a line for the operator on standard error.
pub(super) fn report(what: impl Display) -> io::Result<()> {
    line(io::stderr(), format_args!("kube-ipvs: {what}"))
}

/// An answer each text of which fits on a line. Its own lines are made of them later.
pub(super) fn shown<T: Serialize + DeserializeOwned>(answer: &T) -> serde_json::Result<T> {
    let mut value = serde_json::to_value(answer)?;
    show(&mut value);
    serde_json::from_value(value)
}

fn show(value: &mut Value) {
    match value {
        Value::String(text) => *text = one_line(text).into_owned(),
        Value::Array(values) => values.iter_mut().for_each(show),
        Value::Object(fields) => fields.values_mut().for_each(show),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_of_lines_are_coloured() {
        let text = "fail  forwarding  ok is 0\n      sysctl -w a=1\nokay\n+ -A -t 10.96.0.1:80";
        let expected = "\u{1b}[31mfail\u{1b}[0m  forwarding  ok is 0\n      sysctl -w a=1\nokay\n\
                        \u{1b}[32m+\u{1b}[0m -A -t 10.96.0.1:80";
        assert_eq!(coloured(text), expected);
    }
}
