//! Notifications of the kernel.

use std::fs;
use std::time::{Duration, Instant};

use netlink_ipvs::{Listener, Subsystem};

use super::{Component, component};

pub(crate) fn components() -> Vec<Component> {
    vec![component("endless_notifications_end_a_read", endless_notifications_end_a_read)]
}

/// A trace ends in time, however much another program traces.
fn endless_notifications_end_a_read() {
    /// `RTNLGRP_IPV4_NETCONF`
    const SETTINGS: u32 = 24;
    let mut listener = Listener::open(Subsystem::Route, &[SETTINGS], &[]).unwrap();
    let mut toggled = 0;
    let mut toggle = || {
        toggled += 1;
        let value = ["0", "1"][toggled % 2];
        fs::write("/proc/sys/net/ipv4/conf/lo/forwarding", value).unwrap();
    };
    toggle();
    toggle();
    let start = Instant::now();
    let mut read = 0;
    listener.read(|_, _| {
        assert!(start.elapsed() < Duration::from_secs(60), "the read does not end");
        read += 1;
        toggle();
    });
    assert!(read > 1, "{read} notifications");
}
