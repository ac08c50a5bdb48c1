//! Label selectors as text, as `kubectl -l` reads them.

use kube_ipvs_core::model::{LabelRequirement, LabelSelector, Name, cut};

/// The most requirements of a selector.
const MOST_REQUIREMENTS: usize = 100;

/// Parses `key=value`, `key!=value`, `key in (a, b)`, `key notin (a, b)`, `key` and `!key`,
/// separated by commas.
///
/// # Errors
///
/// The requirement that is invalid.
pub fn label_selector(text: &str) -> Result<LabelSelector, String> {
    let some = split(text).take(MOST_REQUIREMENTS + 1);
    let requirements = some.map(requirement).collect::<Result<Vec<_>, _>>()?;
    if requirements.len() > MOST_REQUIREMENTS {
        return Err(format!("a selector has at most {MOST_REQUIREMENTS} requirements"));
    }
    Ok(LabelSelector(requirements.into()))
}

/// Splits at the commas outside of parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .map(str::trim)
}

fn requirement(text: &str) -> Result<LabelRequirement, String> {
    let set = |operator: &str| {
        let (key, values) = text.split_once(operator)?;
        let values = values.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some((key, values.split(',').map(str::trim).collect::<Vec<_>>()))
    };
    let equal = |operator: &str| text.split_once(operator).map(|(key, value)| (key, vec![value]));
    let (key, values, is_negated) = if let Some((key, values)) = set(" notin ") {
        (key, values, true)
    } else if let Some((key, values)) = set(" in ") {
        (key, values, false)
    } else if let Some((key, values)) = equal("!=") {
        (key, values, true)
    } else if let Some((key, values)) = equal("==").or_else(|| equal("=")) {
        (key, values, false)
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Vec::new(), true)
    } else {
        (text, Vec::new(), false)
    };
    let key = key.trim();
    let values: Vec<_> = values.into_iter().map(str::trim).collect();
    let is_label = |text: &str| {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        text.len() <= 317 && text.bytes().all(is_usual)
    };
    if key.is_empty() || !is_label(key) || !values.iter().all(|value| is_label(value)) {
        return Err(format!("{:?} is not a label selector such as zone=a", cut(text, 100)));
    }
    let values = values.into_iter().map(Name::from).collect();
    Ok(LabelRequirement { key: key.into(), values, is_negated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector = label_selector(selector).expect(selector);
        let again = label_selector(&selector.to_string());
        assert_eq!(again.as_ref(), Ok(&selector), "{selector}");
        selector.selects(|key, value| {
            labels.iter().any(|(name, text)| *name == key && value.is_none_or(|it| it == *text))
        })
    }

    #[test]
    fn selectors_select_as_kubectl_does() {
        let edge = [("role", "edge"), ("example.com/zone", "a")];
        for (selector, expected) in [
            ("role=edge", true),
            ("role==edge,example.com/zone = a", true),
            ("role=core", false),
            ("role!=core", true),
            ("other!=core", true),
            ("role in (core, edge)", true),
            ("role notin (core,edge), role", false),
            ("other notin (a)", true),
            ("role", true),
            ("!role", false),
            ("!other,role", true),
        ] {
            assert_eq!(selects(selector, &edge), expected, "{selector}");
        }
    }

    #[test]
    fn invalid_selectors_are_rejected() {
        for text in ["", "a=b,", "=b", "a in b", "a b", "a=b c", "!", "a in (b"] {
            assert!(label_selector(text).is_err(), "{text:?}");
        }
    }
}
