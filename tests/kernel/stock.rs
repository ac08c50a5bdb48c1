//! The tests that `make test` also runs on a distribution's kernel, emulated and slow: whatever depends
//! on how a kernel was built, and every kernel interface once. `make kernel-matrix` runs all tests there.

const TESTS: [&str; 22] = [
    // Loadable modules. The test kernel has most of them built in.
    "without_the_module",
    "a_module_that_was_loaded_anew_is_found_again",
    "modules_are_loaded_beforehand_and_on_demand",
    // Every interface: IPVS, nf_tables, devices, routes, connection tracking, addresses and
    // sysctls.
    "operations_print_as_ipvsadm_saves_them_and_read_back",
    "servers_are_changed_and_removed",
    "errors_of_ipvs_are_explained",
    "the_device_is_as_kube_proxy_makes_it",
    "routes_round_trip_and_are_replaced_and_deleted",
    "running_connections_are_counted",
    "exactly_the_matching_udp_entries_are_deleted",
    "the_follower_reports_each_change_once",
    "a_bare_namespace_is_healthy_once_its_settings_are_made",
    "foreign_firewalls_and_leftovers_are_found",
    "every_scheduler",
    // One case each of traffic, refusal, traffic policy, drift and takeover.
    "every_client_family_and_protocol",
    "unknown_ports_are_refused",
    "pods_are_detected_by_their_interface",
    "drift_in_tables_and_routes_is_repaired_at_once",
    "taking_over_from_kube_proxy_costs_no_connection",
    // Every command, and the capabilities that the manifests grant.
    "every_command_answers_on_a_node",
    "cleanup_removes_all_our_objects",
    "the_manifests_rights_are_enough",
];

/// Whether the test of that name is one of them.
pub(crate) fn has(name: &str) -> bool {
    TESTS.contains(&name)
}

/// Names above that match none of `names`.
pub(crate) fn unknown(names: &[&str]) -> Vec<&'static str> {
    TESTS.into_iter().filter(|name| !names.contains(name)).collect()
}
