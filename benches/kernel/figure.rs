//! Figures and their output.

use std::fmt;

use serde_json::{Value, json};

/// A measurement with a baseline of the same run.
pub(crate) struct Figure {
    name: String,
    what: String,
    unit: &'static str,
    ours: f64,
    baseline: f64,
}

impl Figure {
    pub(crate) fn new(
        name: impl Into<String>,
        what: impl Into<String>,
        unit: &'static str,
        ours: f64,
        baseline: f64,
    ) -> Self {
        Self { name: name.into(), what: what.into(), unit, ours, baseline }
    }

    pub(crate) fn ours(&self) -> f64 {
        self.ours
    }

    fn ratio(&self) -> f64 {
        self.ours / self.baseline
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "baseline": self.baseline,
            "ratio": self.ratio(),
        })
    }
}

impl fmt::Display for Figure {
    /// Formats a line of a Markdown table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, what, unit, ours, baseline } = self;
        write!(f, "| `{name}` | {what} | {ours:.4} {unit} | {baseline:.4} {unit} | ")?;
        write!(f, "**{:.2}** |", self.ratio())
    }
}
