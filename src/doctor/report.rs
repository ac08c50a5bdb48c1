//! What the checks found, and how it is printed.

use std::fmt;

use kube_ipvs_core::model::one_line;
use serde::Serialize;

/// How serious a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// Nothing to do.
    Ok,
    /// Some traffic may not work, or the check found no answer.
    Warn,
    /// Services will not work.
    Fail,
}

impl fmt::Display for CheckVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    pub verdict: CheckVerdict,
    /// What was found, on one line.
    pub found: String,
    /// What to do, one command or sentence per line; `None` if there is nothing to do.
    pub mend: Option<String>,
}

impl Check {
    pub(super) fn new(name: &'static str, finding: Finding) -> Self {
        let Finding { verdict, found, mend } = finding;
        let mend: Vec<_> = mend.iter().map(|line| one_line(line)).collect();
        let mend = (!mend.is_empty()).then(|| mend.join("\n"));
        Self { name, verdict, found: one_line(&found).into_owned(), mend }
    }
}

/// What one check found: a [`Check`] without its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Finding {
    pub(super) verdict: CheckVerdict,
    pub(super) found: String,
    pub(super) mend: Vec<String>,
}

impl Finding {
    pub(super) fn ok(found: impl Into<String>) -> Self {
        Self { verdict: CheckVerdict::Ok, found: found.into(), mend: Vec::new() }
    }

    pub(super) fn warn(found: impl Into<String>, mend: impl IntoIterator<Item = String>) -> Self {
        Self { verdict: CheckVerdict::Warn, found: found.into(), mend: mend.into_iter().collect() }
    }

    pub(super) fn fail(found: impl Into<String>, mend: impl IntoIterator<Item = String>) -> Self {
        Self { verdict: CheckVerdict::Fail, found: found.into(), mend: mend.into_iter().collect() }
    }

    /// The finding of a check that could not read the kernel.
    pub(super) fn unknown(cause: impl fmt::Display) -> Self {
        let advice = "run this as root, in the node's own network namespace".to_owned();
        Self::warn(format!("cannot tell: {cause}"), [advice])
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Report {
    /// One per check, in a fixed order.
    pub checks: Vec<Check>,
}

impl Report {
    #[must_use]
    pub fn worst(&self) -> CheckVerdict {
        self.checks.iter().map(|check| check.verdict).max().unwrap_or(CheckVerdict::Ok)
    }
}

impl fmt::Display for Report {
    /// One line per check, in columns; under a `warn` or `fail`, indented, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in &self.checks {
            writeln!(f, "{:<4}  {:<width$}  {}", check.verdict, check.name, check.found)?;
            for line in check.mend.iter().flat_map(|mend| mend.lines()) {
                writeln!(f, "{:6}{line}", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_forge_no_line() {
        let mend = vec!["nft delete table ip x\nok    forged".to_owned()];
        let check = Check::new("tables", Finding::fail("table \u{1b}[2J\nfail  forged", mend));
        let text = Report { checks: vec![check] }.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn prints_in_columns() {
        let forwarding = Finding::fail("ip_forward is 0", ["sysctl -w a=1".to_owned()]);
        let report = Report {
            checks: vec![
                Check::new("kernel", Finding::ok("6.1.0 (>= 5.9)")),
                Check::new("forwarding", forwarding),
            ],
        };
        let text = "\
ok    kernel      6.1.0 (>= 5.9)
fail  forwarding  ip_forward is 0
      sysctl -w a=1
";
        assert_eq!(report.to_string(), text);
        assert_eq!(report.worst(), CheckVerdict::Fail);
    }
}
