//! Our nf_tables tables over netlink, with `nft` to judge them.

use std::fs;

use kube_ipvs::kernel::nft::{Nft, NftObserved, render};
use kube_ipvs::plan::FilterOperation::{CreateTables, DeleteTables};

use super::{Component, component, output, run};

pub(crate) fn components() -> Vec<Component> {
    vec![
        component("nft_lists_the_tables_as_rendered", nft_lists_the_tables_as_rendered),
        component(
            "nft_makes_the_same_of_the_rendered_text",
            nft_makes_the_same_of_the_rendered_text,
        ),
        component("a_changed_table_keeps_its_elements", a_changed_table_keeps_its_elements),
    ]
}

/// What `nft` lists of our tables, with these options.
fn listed(options: &str) -> String {
    let list = |family| output(&format!("nft {options} list table {family} kube-ipvs"));
    ["ip", "ip6", "arp"].map(list).concat()
}

/// The expressions of our rules, as `nft` reads them.
fn expressions() -> Vec<String> {
    let lines = listed("--debug=netlink");
    lines.lines().filter(|line| line.starts_with("  [")).map(str::to_owned).collect()
}

fn created() -> Nft {
    let mut nft = Nft::open().unwrap();
    assert_eq!(nft.apply(&[CreateTables]), [Ok(())]);
    nft
}

fn nft_lists_the_tables_as_rendered() {
    let mut nft = created();
    let (listed, rendered) = (listed("--stateless"), render(&[]));
    for (listed, rendered) in listed.lines().zip(rendered.lines()) {
        assert_eq!(listed, rendered);
    }
    assert_eq!(listed, rendered);
    assert_eq!(nft.observe().unwrap(), NftObserved { tables: true, ..NftObserved::default() });
    assert_eq!(nft.apply(&[DeleteTables]), [Ok(())]);
    assert_eq!(output("nft list ruleset"), "");
}

fn nft_makes_the_same_of_the_rendered_text() {
    let mut nft = created();
    let ours = expressions();
    assert!(ours.len() > 100, "{ours:?}");
    assert_eq!(nft.apply(&[DeleteTables]), [Ok(())]);
    let file = std::env::temp_dir().join(format!("rendered-{}.nft", std::process::id()));
    fs::write(&file, render(&[])).unwrap();
    run(&format!("nft -f {}", file.display()));
    fs::remove_file(file).unwrap();
    assert_eq!(expressions(), ours);
    assert!(nft.observe().unwrap().tables);
}

fn a_changed_table_keeps_its_elements() {
    let mut nft = created();
    for line in [
        "nft add element ip6 kube-ipvs pools { fd00::1 }",
        "nft add chain ip6 kube-ipvs foreign",
        "nft add rule ip6 kube-ipvs forward goto foreign",
        "nft flush chain ip6 kube-ipvs masq",
        // A set of another make.
        "nft flush chain arp kube-ipvs input",
        "nft delete set arp kube-ipvs pools",
        "nft add set arp kube-ipvs pools { type ipv4_addr; flags interval; }",
    ] {
        run(line);
    }
    assert!(!nft.observe().unwrap().tables);
    assert_eq!(nft.apply(&[CreateTables]), [Ok(())]);
    assert!(nft.observe().unwrap().tables);
    run("nft delete element ip6 kube-ipvs pools { fd00::1 }");
    assert_eq!(listed("--stateless"), render(&[]));
}
