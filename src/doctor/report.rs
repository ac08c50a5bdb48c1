//! The findings of the checks, and their text.

use std::fmt;

use kube_ipvs_core::model::one_line;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    Ok,
    /// Some traffic may not work, or the check failed.
    Warn,
    /// Services will not work.
    Fail,
}

impl CheckVerdict {
    pub const ALL: [Self; 3] = [Self::Ok, Self::Warn, Self::Fail];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for CheckVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub verdict: CheckVerdict,
    pub found: String,
    /// What to do, one command or sentence each; empty if nothing must be done.
    pub mend: Vec<String>,
}

impl Finding {
    pub(super) fn ok(found: impl Into<String>) -> Self {
        Self { verdict: CheckVerdict::Ok, found: found.into(), mend: Vec::new() }
    }

    pub(super) fn warn<M: Into<String>>(
        found: impl Into<String>,
        mend: impl IntoIterator<Item = M>,
    ) -> Self {
        Self { verdict: CheckVerdict::Warn, ..Self::fail(found, mend) }
    }

    pub(super) fn fail<M: Into<String>>(
        found: impl Into<String>,
        mend: impl IntoIterator<Item = M>,
    ) -> Self {
        let mend = mend.into_iter().map(Into::into).collect();
        Self { verdict: CheckVerdict::Fail, found: found.into(), mend }
    }

    /// Returns the finding of a check that could not read the kernel.
    pub(super) fn unknown(cause: impl fmt::Display) -> Self {
        let advice = "run this as root, in the node's own network namespace";
        Self::warn(format!("cannot be checked: {cause}"), [advice])
    }
}

/// A finding with the name of its check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckResult {
    pub check: String,
    #[serde(flatten)]
    pub finding: Finding,
}

/// The findings of the checks, in a fixed order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub checks: Vec<CheckResult>,
}

impl Report {
    #[must_use]
    pub fn worst(&self) -> CheckVerdict {
        let verdicts = self.checks.iter().map(|it| it.finding.verdict);
        verdicts.max().unwrap_or(CheckVerdict::Ok)
    }
}

impl fmt::Display for Report {
    /// Formats one line per check, in columns. What to do follows a `warn` or `fail`, indented.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|it| it.check.len()).max().unwrap_or(0);
        for CheckResult { check, finding: Finding { verdict, found, mend } } in &self.checks {
            writeln!(f, "{verdict:<4}  {check:<width$}  {}", one_line(found))?;
            for line in mend {
                writeln!(f, "{:6}{}", "", one_line(line))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: impl IntoIterator<Item = (&'static str, Finding)>) -> Report {
        let result = |(check, finding): (&str, _)| CheckResult { check: check.to_owned(), finding };
        Report { checks: findings.into_iter().map(result).collect() }
    }

    #[test]
    fn foreign_names_cannot_forge_lines() {
        let mend = vec!["nft delete table ip x\nok    forged".to_owned()];
        let finding = Finding::fail("table \u{1b}[2J\nfail  forged", mend);
        let text = report([("tables", finding)]).to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn prints_in_columns() {
        let forwarding = Finding::fail("ip_forward is 0", ["sysctl -w a=1"]);
        let report =
            report([("kernel", Finding::ok("6.1.0 (>= 5.9)")), ("forwarding", forwarding)]);
        let text = "\
ok    kernel      6.1.0 (>= 5.9)
fail  forwarding  ip_forward is 0
      sysctl -w a=1
";
        assert_eq!(report.to_string(), text);
        assert_eq!(report.worst(), CheckVerdict::Fail);
        let json = serde_json::to_value(&report).expect("JSON");
        let last = serde_json::json!({
            "check": "forwarding", "verdict": "fail", "found": "ip_forward is 0",
            "mend": ["sysctl -w a=1"],
        });
        assert_eq!(json["checks"][1], last);
    }
}
