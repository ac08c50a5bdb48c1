//! The page for people at `/`: one file that asks `/status` and `/explain`.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};

use super::routes::{respond, with_header};
use super::server::Answer;

const PAGE: &str = include_str!("page.html");

/// Allows the page's own script and style by their hashes, and questions to the agent; nothing else.
const POLICY: &str = "default-src 'none'; \
                      script-src 'sha256-0nX6/Yszlw4sq8X4B4x2Vh1KnwkSIUn1JZZenqOTgeE='; \
                      style-src 'sha256-ke4fRb9nxjb4lzNxLopkMjSLJB3dwwfq4FNAVbNYK3M='; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

pub(super) fn page() -> Answer {
    let answer = respond(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    let answer = with_header(answer, CONTENT_SECURITY_POLICY, POLICY);
    let answer = with_header(answer, REFERRER_POLICY, "no-referrer");
    // After an update of the agent, the script fits its answers.
    with_header(answer, CACHE_CONTROL, "no-store")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::prelude::*;
    use ring::digest::{SHA256, digest};

    use super::*;

    /// Returns the text of the only element of this name.
    fn text_of(element: &str) -> &'static str {
        let (_, after) = PAGE.split_once(&format!("<{element}>")).unwrap();
        let (text, rest) = after.split_once(&format!("</{element}>")).unwrap();
        assert!(!rest.contains(&format!("<{element}")));
        text
    }

    #[test]
    fn the_policy_allows_the_script_and_the_style_of_the_page() {
        for (element, directive) in [("script", "script-src"), ("style", "style-src")] {
            let hash = BASE64_STANDARD.encode(digest(&SHA256, text_of(element).as_bytes()));
            let expected = format!("{directive} 'sha256-{hash}';");
            assert!(POLICY.contains(&expected), "the policy needs {expected}");
        }
    }

    #[test]
    fn the_page_writes_no_html_and_loads_nothing() {
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser"] {
            assert!(!PAGE.contains(way), "{way}");
        }
        for attribute in [" src=", "style=", "onclick=", "url(", "@import", "href=\"/", "fetch('/"]
        {
            assert!(!PAGE.contains(attribute), "{attribute}");
        }
        // The name of a kind of element, which is no address.
        let linked = PAGE.replace("http://www.w3.org/2000/svg", "");
        assert!(!linked.contains("http:") && !linked.contains("https:"));
    }
}
