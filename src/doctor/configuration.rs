//! The check of what the configuration has with kube-proxy alone.

use super::{Finding, Subject};

pub(super) fn differences(subject: &Subject) -> Finding {
    if subject.differences.is_empty() {
        return Finding::ok("every option that is set has its effect");
    }
    let found: Vec<_> = subject.differences.iter().map(|it| it.what.as_str()).collect();
    let mut mend: Vec<_> = subject.differences.iter().map(|it| it.instead.to_owned()).collect();
    mend.dedup();
    Finding::warn(found.join("; "), mend)
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;
    use crate::config::Difference;

    #[test]
    fn each_difference_is_named_with_what_to_do() {
        assert_eq!(differences(&Subject::default()).verdict, CheckVerdict::Ok);
        let of = |what: &str, instead| Difference { what: what.to_owned(), instead };
        let all = vec![
            of("mode: no localhost", "use the ClusterIP"),
            of("a: ignored", "go"),
            of("b: ignored", "go"),
        ];
        let found = differences(&Subject { differences: all, ..Subject::default() });
        assert_eq!(found.verdict, CheckVerdict::Warn);
        assert_eq!(found.found, "mode: no localhost; a: ignored; b: ignored");
        assert_eq!(found.mend, ["use the ClusterIP", "go"]);
    }
}
