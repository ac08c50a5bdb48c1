//! The cost of traffic through a node with the agent's tables, compared with nodes that use only
//! plain kernel objects.
//!
//! All nodes exist all the time and are measured in turn, several times: the kernel's memory of
//! connections makes all of them slower alike.

mod node;
mod traffic;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use node::{Carrier, Target};
use traffic::Exchange;

use crate::figure::Figure;
use crate::namespace::{Lab, Place};
use crate::{Result, median};

/// Measurements per figure.
const TURNS: usize = 5;

/// A row of the table for each [`Exchange`]: the client and its target on one node, compared with
/// the same on another node.
struct Comparison {
    from: Place,
    to: Target,
    /// The suffix of the name.
    suffix: &'static str,
    ours: Carrier,
    baseline: Carrier,
    what: &'static str,
}

const COMPARISONS: [Comparison; 11] = {
    use Carrier::{Bare, Carried, Floor, Hooked, Ipvs, Many, Masquerading, Offloaded, Ours};
    use Place::{Node, OtherPod, Outside};
    use Target::{ClusterIp, LoadBalancer, NodePort, Pod};

    const fn row(
        (from, to, suffix): (Place, Target, &'static str),
        (ours, baseline): (Carrier, Carrier),
        what: &'static str,
    ) -> Comparison {
        Comparison { from, to, suffix, ours, baseline, what }
    }

    let bare = "baseline a map, a virtual server and a rule that masquerades";
    let floor = "baseline the map alone, without IPVS";
    let flat = "with 10,000 Services; baseline with 100";
    [
        row((OtherPod, ClusterIp, ""), (Ours, Ipvs), "baseline IPVS and empty chains of type nat"),
        row((OtherPod, ClusterIp, "_flatness"), (Many, Ours), flat),
        row((OtherPod, ClusterIp, "_carried"), (Carried, Floor), floor),
        row((OtherPod, ClusterIp, "_offloaded"), (Offloaded, Floor), floor),
        row(
            (Node, ClusterIp, ""),
            (Ours, Masquerading),
            "baseline IPVS and a rule that masquerades",
        ),
        row((Outside, LoadBalancer, ""), (Ours, Bare), bare),
        row((Outside, LoadBalancer, "_floor"), (Ours, Floor), floor),
        row((Outside, LoadBalancer, "_flatness"), (Many, Ours), flat),
        row((Outside, NodePort, ""), (Ours, Bare), bare),
        row((Outside, NodePort, "_floor"), (Ours, Floor), floor),
        row((OtherPod, Pod, ""), (Ours, Hooked), "baseline IPVS and chains without rules"),
    ]
};

/// A measurement on one node.
type Measured = (Carrier, Place, Target, Exchange);

impl Comparison {
    fn sides(&self, exchange: Exchange) -> [Measured; 2] {
        [self.ours, self.baseline].map(|carrier| (carrier, self.from, self.to, exchange))
    }

    fn name(&self, exchange: Exchange) -> String {
        let from = match self.from {
            Place::Node => "node",
            Place::Pod | Place::OtherPod => "pod",
            Place::Outside => "outside",
        };
        format!("data_path_{from}_{}_{}{}", self.to, exchange.name(), self.suffix)
    }

    /// Returns the figure, and the spread of its ratios between turns.
    fn figure(
        &self,
        exchange: Exchange,
        times: &BTreeMap<Measured, Vec<f64>>,
    ) -> Result<(Figure, f64)> {
        let [ours, baseline] = self.sides(exchange).map(|side| &times[&side]);
        let ratios = ours.iter().zip(baseline).map(|(ours, baseline)| ours / baseline);
        let [least, greatest] = [
            ratios.clone().fold(f64::INFINITY, f64::min),
            ratios.fold(f64::NEG_INFINITY, f64::max),
        ];
        let [ours, baseline] = [median(ours.clone())?, median(baseline.clone())?];
        let figure = Figure::new(self.name(exchange), self.what, "µs", ours, baseline);
        Ok((figure, 100.0 * (greatest / least - 1.0)))
    }
}

pub(crate) fn exchanges() -> Result<Vec<Figure>> {
    let mut labs: BTreeMap<Carrier, Lab> = BTreeMap::new();
    let mut times: BTreeMap<Measured, Vec<f64>> = BTreeMap::new();
    for comparison in &COMPARISONS {
        for exchange in Exchange::ALL {
            for side in comparison.sides(exchange) {
                times.insert(side, Vec::new());
                if let Entry::Vacant(lab) = labs.entry(side.0) {
                    lab.insert(side.0.lab()?);
                }
            }
        }
    }
    for _ in 0..TURNS {
        for ((carrier, from, to, exchange), times) in &mut times {
            let to = to.of(exchange.with());
            times.push(
                labs[carrier].at(*from, || exchange.measure(to, *carrier == Carrier::Offloaded))?,
            );
        }
    }
    let mut figures = Vec::new();
    let mut spreads = Vec::new();
    for comparison in &COMPARISONS {
        for exchange in Exchange::ALL {
            let (figure, spread) = comparison.figure(exchange, &times)?;
            figures.push(figure);
            spreads.push(spread);
        }
    }
    let spread = spreads.iter().copied().fold(0.0, f64::max);
    let what = "the most by which a ratio above differs between turns; baseline the middle one";
    figures.push(Figure::new("data_path_spread", what, "%", spread, median(spreads)?));
    Ok(figures)
}
