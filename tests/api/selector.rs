//! Which objects are asked for.

use serde_json::Value;

/// Label and field selectors of a request.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug)]
enum Requirement {
    Has(String),
    HasNot(String),
    Is(String, String),
    IsNot(String, String),
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`.
    pub fn new(labels: &str, fields: &str) -> Self {
        let read = |text: &str| text.split(',').filter(|t| !t.is_empty()).map(read).collect();
        Self { labels: read(labels), fields: read(fields) }
    }

    pub fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str().map(str::to_owned);
        // A field that is not set reads as empty.
        let field = |key: &str| {
            let value = object.pointer(&format!("/{}", key.replace('.', "/")));
            Some(value.and_then(Value::as_str).unwrap_or_default().to_owned())
        };
        self.labels.iter().all(|requirement| requirement.is_met(label))
            && self.fields.iter().all(|requirement| requirement.is_met(field))
    }
}

fn read(text: &str) -> Requirement {
    if let Some((key, value)) = text.split_once("!=") {
        Requirement::IsNot(key.to_owned(), value.to_owned())
    } else if let Some((key, value)) = text.split_once('=') {
        Requirement::Is(key.to_owned(), value.trim_start_matches('=').to_owned())
    } else if let Some(key) = text.strip_prefix('!') {
        Requirement::HasNot(key.to_owned())
    } else {
        Requirement::Has(text.to_owned())
    }
}

impl Requirement {
    fn is_met(&self, value: impl Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Has(key) => value(key).is_some(),
            Self::HasNot(key) => value(key).is_none(),
            Self::Is(key, wanted) => value(key).as_ref() == Some(wanted),
            Self::IsNot(key, unwanted) => value(key).as_ref() != Some(unwanted),
        }
    }
}
