//! DesiredState kept up to date equal DesiredState made from the final objects.

use kube_ipvs_core::engine::{DesiredState, elements};
use kube_ipvs_core::explain::{Source, explain};
use kube_ipvs_core::model::{Event, Protocol, Settings, VirtualAddress};
use kube_ipvs_core::state::State;
use proptest::prelude::*;

use super::cases;
use super::settings::settings;
use crate::common::objects::service_key;
use crate::common::random::{Objects, SERVICES, SOURCES, destinations, events};

/// Takes in events, with a look after each `pace`.
fn desired<'a>(
    settings: &Settings,
    events: impl IntoIterator<Item = &'a Event>,
    pace: usize,
) -> DesiredState {
    let mut state = State::new(settings.node_name.clone());
    let mut desired = DesiredState::new(settings);
    for (index, event) in events.into_iter().enumerate() {
        state.apply(event.clone());
        if index % pace == 0 {
            desired.update(&mut state);
        }
    }
    desired.update(&mut state);
    desired
}

/// Every address with every port that occurs.
fn destinations_and_ports() -> impl Iterator<Item = VirtualAddress> {
    destinations().into_iter().flat_map(|ip| {
        [80, 81, 30080].into_iter().flat_map(move |port| {
            [Protocol::Tcp, Protocol::Udp].into_iter().map(move |protocol| VirtualAddress {
                ip,
                port,
                protocol,
            })
        })
    })
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn the_desired_state_does_not_depend_on_its_history(
        settings in settings(),
        events in events(1..40),
        pace in 1..5_usize,
    ) {
        let kept = desired(&settings, &events, pace);
        let rebuilt = desired(&settings, &Objects::after(&events).listed(), usize::MAX);
        prop_assert_eq!(kept.node(), rebuilt.node());
        for key in SERVICES.map(service_key) {
            prop_assert_eq!(kept.service(&key), rebuilt.service(&key), "{}", key);
        }
        prop_assert_eq!(kept.services().count(), rebuilt.services().count());
        prop_assert_eq!(elements(&kept), elements(&rebuilt));
        for source in SOURCES.map(|text| text.parse::<Source>().unwrap()) {
            for address in destinations_and_ports() {
                prop_assert_eq!(
                    explain(&kept, address, source),
                    explain(&rebuilt, address, source)
                );
            }
        }
    }
}
