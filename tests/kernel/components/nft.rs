//! Our nf_tables tables over netlink, with `nft` to judge them.

use std::fs;

use kube_ipvs::kernel::nft::{Nft, render};
use kube_ipvs_core::model::{AddressSet, Carry, Element, Settings};
use kube_ipvs_core::plan::FilterOperation::{Add, CreateTables, Delete, DeleteTables};
use kube_ipvs_core::plan::Observed;

use super::{Component, component, output, run};

pub(crate) fn components() -> Vec<Component> {
    vec![
        component("nft_lists_the_tables_as_rendered", nft_lists_the_tables_as_rendered),
        component(
            "nft_makes_the_same_of_the_rendered_text",
            nft_makes_the_same_of_the_rendered_text,
        ),
        component("links_come_to_a_flowtable_and_go", links_come_to_a_flowtable_and_go),
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

fn created(settings: &Settings) -> Nft {
    let mut nft = Nft::open().unwrap().configured(settings);
    assert_eq!(nft.apply(&[CreateTables]), [Ok(())]);
    nft
}

/// Without the lines that depend on the configuration, and with them.
fn configurations() -> [Settings; 2] {
    let plain = Settings::for_node("n1");
    let carry = Carry::Offload(Vec::new());
    [plain.clone(), Settings { carry, one_packet_everywhere: true, ..plain }]
}

fn nft_lists_the_tables_as_rendered() {
    for settings in configurations() {
        let mut nft = created(&settings);
        let (listed, rendered) = (listed("--stateless"), render(&[], &settings));
        for (listed, rendered) in listed.lines().zip(rendered.lines()) {
            assert_eq!(listed, rendered);
        }
        assert_eq!(listed, rendered);
        assert_eq!(nft.observe().unwrap(), Observed { tables: true, ..Observed::default() });
        assert_eq!(nft.apply(&[DeleteTables]), [Ok(())]);
        assert_eq!(output("nft list ruleset"), "");
    }
}

fn nft_makes_the_same_of_the_rendered_text() {
    for settings in configurations() {
        let mut nft = created(&settings);
        let ours = expressions();
        assert!(ours.len() > 100, "{ours:?}");
        assert_eq!(nft.apply(&[DeleteTables]), [Ok(())]);
        let file = std::env::temp_dir().join(format!("rendered-{}.nft", std::process::id()));
        fs::write(&file, render(&[], &settings)).unwrap();
        run(&format!("nft -f {}", file.display()));
        fs::remove_file(file).unwrap();
        assert_eq!(expressions(), ours);
        assert!(nft.observe().unwrap().tables);
        assert_eq!(nft.apply(&[DeleteTables]), [Ok(())]);
    }
}

fn links_come_to_a_flowtable_and_go() {
    let [plain, offload] = configurations();
    run("ip link add one type dummy");
    run("ip link add two type dummy");
    let mut nft = created(&offload);
    let [one, two] = ["one", "two"].map(|name| Element::OffloadLink(name.parse().unwrap()));
    let sorted = |nft: &mut Nft| {
        let observed = nft.observe().unwrap();
        assert!(observed.tables);
        let mut elements = observed.elements;
        elements.sort();
        elements
    };
    assert_eq!(nft.apply(&[Add(one), Add(two)]), [Ok(()), Ok(())]);
    // What is there already is fine.
    assert_eq!(nft.apply(&[Add(one)]), [Ok(())]);
    assert_eq!(sorted(&mut nft), [one, two]);
    assert_eq!(listed("--stateless"), render(&[one, two], &offload));
    // From 6.16 on, the name of a link that has gone stays.
    run("ip link delete one");
    assert_eq!(nft.apply(&[Delete(one), Delete(two)]), [Ok(()), Ok(())]);
    assert_eq!(sorted(&mut nft), []);
    // To the other rules and back, with what was in the sets.
    let pool = Element::Address(AddressSet::Pools, "10.96.0.1".parse().unwrap());
    assert_eq!(nft.apply(&[Add(two), Add(pool)]), [Ok(()), Ok(())]);
    let mut nft = nft.configured(&plain);
    assert!(!nft.observe().unwrap().tables);
    assert_eq!(nft.apply(&[CreateTables]), [Ok(())]);
    assert_eq!(sorted(&mut nft), [pool]);
    let mut nft = nft.configured(&offload);
    assert!(!nft.observe().unwrap().tables);
    assert_eq!(nft.apply(&[CreateTables]), [Ok(())]);
    assert_eq!(sorted(&mut nft), [pool]);
}

fn a_changed_table_keeps_its_elements() {
    let [plain, _] = configurations();
    let mut nft = created(&plain);
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
    assert_eq!(listed("--stateless"), render(&[], &plain));
}
