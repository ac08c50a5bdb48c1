//! The agent is killed while it works.

use std::thread::sleep;
use std::time::Duration;

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P1, P2, P3, P4};
use crate::lab::{Manifest, SliceBuilder, endpoints, product, service};

/// Services that come and go at once, so that there is something in the middle of which to die.
const OTHERS: u8 = 40;
/// How long after each change the agent is killed.
const AFTER: [u64; 6] = [0, 40, 90, 150, 220, 300];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("killed_at_any_moment", |t| {
            let steady = service("dev/steady").cluster_ip("10.96.9.50").port("tcp", 80);
            let steady = steady.udp("udp", 80).load_balancer_ip("203.0.113.150");
            t.apply(steady.local_external())?;
            t.apply(slice("steady").ready_on(P1).ready_on(P3))?;
            t.settled()?;
            let mut open = t.connect(P2, "10.96.9.50:80/tcp")?;
            let loads = [
                t.steady_load(P2, "10.96.9.50:80/tcp"),
                t.steady_load(N1, "203.0.113.150:80/tcp"),
                t.steady_load(C, "203.0.113.150:80/udp"),
            ];
            for (round, after) in (0_u8..).zip(AFTER) {
                // One endpoint of the steady Service always changes, another always stays.
                let changing = if round % 2 == 0 { P4 } else { P3 };
                t.apply(slice("steady").ready_on(P1).ready_on(changing))?;
                others(t, round)?;
                sleep(Duration::from_millis(after));
                t.agent().kill()?;
                t.settled()?;
                t.expect(P2, "10.96.9.50:80/tcp", Answers::from_all([P1, changing]))?;
            }
            t.expect_answer(&mut open, "a connection from before")?;
            loads.into_iter().try_for_each(|load| t.expect_no_failure(load))
        }),
        case("a_stopped_agent_completes_its_plan", |t| {
            let steady = service("dev/steady").cluster_ip("10.96.9.51").port("tcp", 80);
            t.apply(steady)?;
            t.apply(slice("steady").ready_on(P1))?;
            t.settled()?;
            t.agent().stop()?;
            t.agent().save(MANY, &many())?;
            let notifications = t.notifications()?;
            t.agent().launch()?;
            patiently(LONG_PATIENCE, || {
                t.check("a route has come", notifications.count().1 > 0, "none")
            })?;
            let is_under_way = t.agent().synced_line().is_none();
            t.agent().stop()?;
            t.check("the plan was under way", is_under_way, "it was carried out")?;
            let plan = t.command("plan", &["--exit-code"])?;
            t.exits_with("nothing is left to do", 0, &plan)?;
            t.expect(P2, "10.96.9.51:80/tcp", Answers::from(P1))?;
            t.expect(P2, "10.97.7.7:80/tcp", Answers::from(P3))?;
            // An agent would take its time to remove as many.
            std::fs::remove_file(t.agent().manifests().join(MANY))?;
            t.run_to_end("cleanup", &[]).map(drop)
        }),
    ]
}

/// The file that has as many Services as make a plan a long one.
const MANY: &str = "many.json";

/// Services of one endpoint each.
fn many() -> String {
    let objects = product(0..16_u8, 0..125_u8).flat_map(|(high, low)| {
        let name = format!("many-{high}-{low}");
        let many = service(&format!("dev/{name}")).cluster_ip(&format!("10.97.{high}.{low}"));
        [Manifest::from(many.port("tcp", 80)), Manifest::from(slice(&name).ready_on(P3))]
    });
    let items: Vec<_> = objects.map(|object| object.content()).collect();
    format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{}]}}"#, items.join(","))
}

/// Makes the other Services, with other endpoints each round, or deletes them.
fn others(t: &mut TestContext<'_>, round: u8) -> Step {
    for number in 0..OTHERS {
        let key = format!("dev/other-{number}");
        let other = service(&key).cluster_ip(&format!("10.96.8.{number}")).port("tcp", 80);
        let slice = slice(&format!("other-{number}"));
        match round % 3 {
            0 => {
                t.apply(other)?;
                t.apply(slice.ready_on(P1).ready_on(P3))?;
            }
            1 => t.apply(slice.ready_on(P4))?,
            _ => {
                t.delete(other)?;
                t.delete(slice)?;
            }
        }
    }
    Ok(())
}

fn slice(service: &str) -> SliceBuilder {
    let slice = endpoints(&format!("dev/{service}")).port("tcp", 8080);
    slice.udp("udp", 8080)
}
