//! Every scheduler of IPVS can be asked for.

use kube_ipvs::model::Protocol::Tcp;

use super::{Case, case};
use crate::expectation::Answers;
use crate::lab::Host::{P1, P2};
use crate::lab::{endpoints, service};

const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"];

pub(crate) fn cases() -> Vec<Case> {
    vec![case("every_scheduler", |t| {
        t.apply(service("dev/scheduled").cluster_ip("10.96.9.8").port(80, "http", Tcp))?;
        // One endpoint, which whatever a scheduler prefers has to be.
        t.apply(endpoints("dev/scheduled").port("http", 8080, Tcp).ready(P1))?;
        for scheduler in SCHEDULERS {
            t.agent().configure_proxy(&format!("ipvs: {{scheduler: {scheduler}}}"))?;
            // Its first sync is enough, and much quicker than asking `plan`.
            t.agent().start()?;
            let ipvs = t.kernel()?.ipvs;
            let line = format!("-A -t 10.96.9.8:80 -s {scheduler}");
            t.check(
                &line,
                ipvs.lines().any(|it| it == line || it.starts_with(&format!("{line} "))),
                &ipvs,
            )?;
            let reply = t.ask(P2, "10.96.9.8:80/tcp")?;
            t.check("an answer", Answers::from(P1).accept(&reply), reply)?;
        }
        Ok(())
    })]
}
