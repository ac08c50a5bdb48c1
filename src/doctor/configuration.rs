//! The check of what the configuration has with kube-proxy alone.

use super::{Finding, Subject};
use crate::config::Difference;

pub(super) fn differences(subject: &Subject) -> Finding {
    if subject.differences.is_empty() {
        return Finding::ok("every option that is set has its effect");
    }
    let told = |it: &Difference| format!("{}; {}", it.what, it.instead);
    Finding::warn(
        format!("differences from kube-proxy: {}", subject.differences.len()),
        subject.differences.iter().map(told),
    )
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;

    #[test]
    fn each_difference_is_named_with_what_to_do() {
        assert_eq!(differences(&Subject::default()).verdict, CheckVerdict::Ok);
        let of = |what: &str, instead| Difference { what: what.to_owned(), instead };
        let all = vec![of("mode: no localhost", "use the ClusterIP"), of("a: ignored", "go on")];
        let found = differences(&Subject { differences: all, ..Subject::default() });
        assert_eq!(found.verdict, CheckVerdict::Warn);
        assert_eq!(found.mend, ["mode: no localhost; use the ClusterIP", "a: ignored; go on"]);
    }
}
