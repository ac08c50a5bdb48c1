//! The JSON and text of `explain`.

use std::fmt;

use kube_ipvs_core::explain::{Candidate, Explanation, Source};
use kube_ipvs_core::model::{EndpointSlice, Scheduler, VirtualAddress};
use kube_ipvs_core::question::ConnectionQuestion;
use kube_ipvs_core::state::State;
use serde::{Deserialize, Serialize};

use super::EndpointView;

/// An [`Explanation`], with the slices of its Service, which have the endpoints' names.
#[derive(Clone, Debug)]
pub struct Explained {
    explanation: Explanation,
    slices: Vec<EndpointSlice>,
}

/// Answers a question: an explanation for each connection that it may mean.
///
/// # Errors
///
/// If a name in the question is unknown, with what to ask instead.
pub fn explained(
    question: &ConnectionQuestion,
    state: &State,
    explain: impl Fn(VirtualAddress, Source) -> Explanation,
) -> Result<Vec<Explained>, String> {
    let answer = |(destination, from)| {
        let explanation = explain(destination, from);
        let service = explanation.service.as_ref();
        let slices = service.into_iter().flat_map(|(key, _)| state.slices(key));
        Explained { slices: slices.cloned().collect(), explanation }
    };
    Ok(question.resolve(state)?.into_iter().map(answer).collect())
}

/// An [`Explanation`] as `explain -o json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainView {
    pub destination: String,
    pub from: String,
    /// `namespace/name:portname`; without the colon for an unnamed port.
    pub service: Option<String>,
    pub frontend: Option<String>,
    pub verdict: String,
    pub reason: String,
    pub scheduler: Option<String>,
    pub affinity_seconds: Option<u32>,
    /// Sorted by address and port.
    pub backends: Vec<EndpointView>,
    /// Sorted by address and port.
    pub draining: Vec<EndpointView>,
}

impl From<&Explanation> for ExplainView {
    fn from(explanation: &Explanation) -> Self {
        let service = explanation.service.as_ref().map(|(key, port)| match port.as_str() {
            "" => key.to_string(),
            port => format!("{key}:{port}"),
        });
        let backends = explanation.backends.iter().zip(explanation.shares());
        let backends = backends.map(|(Candidate { backend, masquerade }, share)| {
            let serving = EndpointView::serving(backend);
            EndpointView { masquerade: Some(*masquerade), share, ..serving }
                .ejected_if(explanation.ejected.contains(&backend.socket()))
        });
        let draining = explanation.draining.iter().map(EndpointView::draining);
        Self {
            destination: explanation.destination.to_string(),
            from: explanation.from.to_string(),
            service,
            frontend: explanation.frontend.map(|kind| kind.to_string()),
            verdict: explanation.verdict.to_string(),
            reason: explanation.reason.clone(),
            scheduler: explanation.scheduler.map(|scheduler| scheduler.to_string()),
            affinity_seconds: explanation.affinity_seconds,
            backends: backends.collect(),
            draining: draining.map(|it| EndpointView { share: Some(0), ..it }).collect(),
        }
    }
}

impl From<&Explained> for ExplainView {
    fn from(Explained { explanation, slices }: &Explained) -> Self {
        let view = Self::from(explanation);
        let named = |all: Vec<EndpointView>| all.into_iter().map(|it| it.named(slices)).collect();
        Self { backends: named(view.backends), draining: named(view.draining), ..view }
    }
}

impl fmt::Display for ExplainView {
    /// Formats the text output, with the verdict first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} from {}: {}", self.destination, self.from, self.verdict)?;
        writeln!(f, "  because    {}", self.reason)?;
        if let Some(service) = &self.service {
            writeln!(f, "  service    {service}")?;
        }
        if let Some(scheduler) = &self.scheduler {
            let how = match scheduler.parse() {
                Ok(it) if Scheduler::counts_connections(it) => {
                    ", by load, with reset connections until ipvs.tcpTimeout"
                }
                Ok(Scheduler::Dh) => ", by destination",
                _ => "",
            };
            writeln!(f, "  scheduler  {scheduler}{how}")?;
        }
        if let Some(seconds) = self.affinity_seconds {
            writeln!(f, "  affinity   {seconds} s")?;
        }
        for backend in &self.backends {
            writeln!(f, "  backend    {backend}")?;
        }
        for endpoint in &self.draining {
            writeln!(f, "  draining   {endpoint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kube_ipvs_core::explain::Verdict;
    use kube_ipvs_core::model::{Backend, FrontendKind, ServiceKey};

    use super::*;

    fn explanation() -> Explanation {
        let backend = |address: &str, weight| Backend {
            address: address.parse().unwrap(),
            port: 53,
            weight,
            local: false,
        };
        Explanation {
            destination: "10.96.0.10:53/udp".parse().unwrap(),
            from: Source::Address("10.244.1.5".parse().unwrap()),
            service: Some((ServiceKey::new("kube-system", "kube-dns"), "dns".to_owned())),
            frontend: Some(FrontendKind::ClusterIp),
            verdict: Verdict::Forward,
            reason: "ClusterIP front end of the Service".to_owned(),
            pool: Some("10.96.0.10:53/udp".parse().unwrap()),
            scheduler: Some(Scheduler::Rr),
            affinity_seconds: None,
            backends: vec![Candidate { backend: backend("10.244.1.7", 1), masquerade: false }],
            ejected: Vec::new(),
            draining: vec![backend("10.244.2.9", 0)],
        }
    }

    #[test]
    fn json_is_the_documented_one() {
        let view = ExplainView::from(&explanation());
        let json = concat!(
            r#"{"destination":"10.96.0.10:53/udp","from":"10.244.1.5","#,
            r#""service":"kube-system/kube-dns:dns","frontend":"ClusterIP","#,
            r#""verdict":"forward","reason":"ClusterIP front end of the Service","#,
            r#""scheduler":"rr","affinitySeconds":null,"#,
            r#""backends":[{"address":"10.244.1.7","port":53,"weight":1,"masquerade":false,"#,
            r#""sharePermille":1000}],"#,
            r#""draining":[{"address":"10.244.2.9","port":53,"sharePermille":0}]}"#
        );
        assert_eq!(serde_json::to_string(&view).unwrap(), json);
        assert_eq!(serde_json::from_str::<ExplainView>(json).unwrap(), view);
    }

    #[test]
    fn unnamed_port_has_no_colon() {
        let mut explanation = explanation();
        explanation.service = Some((ServiceKey::new("a", "b"), String::new()));
        assert_eq!(ExplainView::from(&explanation).service.as_deref(), Some("a/b"));
    }

    #[test]
    fn unknown_fields_of_a_newer_agent_are_ignored() {
        let mut json = serde_json::to_value(ExplainView::from(&explanation())).unwrap();
        json["zone"] = "here".into();
        assert!(serde_json::from_value::<ExplainView>(json).is_ok());
    }

    #[test]
    fn text_names_what_a_scheduler_counts() {
        let explanation = Explanation { scheduler: Some(Scheduler::Wlc), ..explanation() };
        let text = ExplainView::from(&explanation).to_string();
        assert!(
            text.contains(
                "  scheduler  wlc, by load, with reset connections until ipvs.tcpTimeout\n"
            )
        );
    }

    #[test]
    fn an_ejected_backend_is_marked() {
        let ejected = vec!["10.244.1.7:53".parse().unwrap()];
        let mut explanation = Explanation { ejected, ..explanation() };
        explanation.backends[0].backend.weight = 0;
        let view = ExplainView::from(&explanation);
        let line = "  backend    10.244.1.7:53 weight 0, ejected, share 0 %\n";
        assert!(view.to_string().contains(line), "{view}");
        let json = serde_json::to_string(&view).unwrap();
        let fields = r#""weight":0,"masquerade":false,"sharePermille":0,"ejected":true}"#;
        assert!(json.contains(fields), "{json}");
    }

    #[test]
    fn text_leads_with_the_verdict() {
        let text = ExplainView::from(&explanation()).to_string();
        insta::assert_snapshot!(text, @r"
        10.96.0.10:53/udp from 10.244.1.5: forward
          because    ClusterIP front end of the Service
          service    kube-system/kube-dns:dns
          scheduler  rr
          backend    10.244.1.7:53 weight 1, share 100 %
          draining   10.244.2.9:53, share 0 %
        ");
    }
}
