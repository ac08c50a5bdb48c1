//! Configuration, questions, and what these are made of.

use std::fmt::Display;
use std::str::FromStr;

use kube_ipvs::agent::http::{explain_path, parse_explain};
use kube_ipvs::config::{resolve_text, show, write};
use kube_ipvs_core::model::{InterfaceName, Scheduler, VirtualAddress};
use kube_ipvs_core::question::{ClientName, DestinationName};

/// The configuration file. What was read is read again as it is written.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let config = match resolve_text(text) {
        Ok(config) => config,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(show(&config).as_object().map(|groups| groups.len()), Some(2));
    let written = write(&config);
    let read = resolve_text(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(write(&read), written);
}

/// Names and addresses: what was read is read again as it is written.
pub(crate) fn texts(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    read_again::<InterfaceName>(text);
    read_again::<VirtualAddress>(text);
    read_again::<Scheduler>(text);
    read_again::<DestinationName>(text);
    read_again::<ClientName>(text);
}

fn read_again<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert!(written.parse().is_ok_and(|read: T| read == value), "{written}");
    }
}

/// What is asked of `/explain`.
pub(crate) fn query(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(question) = parse_explain(text) {
        let path = explain_path(&question);
        assert_eq!(path.split_once('?').map(|(_, query)| parse_explain(query)), Some(Ok(question)));
    }
}
