//! Values of YAML, and what is said of those that are of another form.

use std::time::Duration;

use serde_json::Value;

use crate::duration;

pub(super) fn truth(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{} is neither true nor false", shown(value)))
}

pub(super) fn count(value: &Value) -> Result<u32, String> {
    let count = value.as_u64().and_then(|count| count.try_into().ok());
    count.ok_or_else(|| match value.as_f64() {
        Some(number) if number < 0.0 => format!("{number} must not be negative"),
        // Of `0100`, which YAML 1.1 takes for 64, this is left.
        Some(number)
            if value.is_f64() && number.fract() == 0.0 && number <= f64::from(u32::MAX) =>
        {
            format!("{number} must begin with no zero, and have neither point nor exponent")
        }
        _ => format!("{} is not a whole number from 0 to {}", shown(value), u32::MAX),
    })
}

pub(super) fn number(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("{} is not a whole number", shown(value)))
}

pub(super) fn time(value: &Value) -> Result<Duration, String> {
    match value {
        Value::String(text) => duration::parse(text),
        Value::Number(number) => duration::parse(&number.to_string()),
        _ => Err(format!("{} is not {}", shown(value), duration::EXAMPLES)),
    }
}

pub(super) fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| match value {
        Value::Array(_) | Value::Object(_) => format!("{} is not a text", shown(value)),
        // The file may have `no` or `on`: YAML keeps only what they mean.
        Value::Bool(_) => format!("{value} is not a text: put what the file has in quotes"),
        _ => format!("{value} is not a text: write \"{value}\""),
    })
}

/// Reads a list of texts. A port alone is a number to YAML.
pub(super) fn list(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(items) => all(items.iter().map(scalar)),
        Value::Object(_) => Err(format!("{} is not a list", shown(value))),
        _ => Err(format!("{value} is not a list: write [{value}]")),
    }
}

/// Returns the text of a scalar, or those of a list with commas between.
pub(super) fn scalars(value: &Value) -> Result<String, String> {
    match value {
        Value::Array(_) => Ok(list(value)?.join(",")),
        _ => scalar(value),
    }
}

fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(format!("{} is not a text, a number, true or false", shown(value))),
    }
}

/// Collects values, or all the reasons why there are none.
pub(super) fn all<T>(results: impl Iterator<Item = Result<T, String>>) -> Result<Vec<T>, String> {
    let (mut values, mut reasons) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(reason) => reasons.push(reason),
        }
    }
    if reasons.is_empty() { Ok(values) } else { Err(reasons.join("; ")) }
}

/// What an operator calls a value.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::Null => "nothing".to_owned(),
        scalar => scalar.to_string(),
    }
}
