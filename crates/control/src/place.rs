//! Whether this node may run a service, and how many of it: `deploy.placement`, and the system of
//! `platform`.
//!
//! With one node there is nothing to choose: what does not fit is not placed, and said. What runs
//! already stays when the node changes; nothing is moved behind anybody's back.

use std::collections::BTreeMap;

use spec::model::Constraint;

use crate::record::ServiceRecord;
use crate::state::State;

/// What constraints may ask of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its host name.
    pub hostname: String,
    /// Its system, such as `linux`.
    pub os: String,
    /// Its processors by the name that the kernel has for them, such as `x86_64`.
    pub arch: String,
    /// What people say of it.
    pub labels: BTreeMap<String, String>,
}

/// Other names of processors.
const SAME_ARCH: [(&str, &str); 3] = [("amd64", "x86_64"), ("arm64", "aarch64"), ("x64", "x86_64")];

impl Node {
    /// Why this node may not run a service, if it may not.
    pub(crate) fn refuses(&self, definition: &spec::Service) -> Option<String> {
        let placement = &definition.placement;
        let os = placement.platform.as_deref().and_then(|p| p.split('/').next());
        if let (Some(os), Some(platform)) = (os, &placement.platform)
            && !self.os.is_empty()
            && !os.eq_ignore_ascii_case(&self.os)
        {
            return Some(format!(
                "no node fits: it is for {platform}, and this node is {}",
                self.os
            ));
        }
        let unmet = placement.constraints.iter().find_map(|c| Some((c, self.unmet(c)?)));
        unmet.map(|(constraint, is)| {
            let sign = if constraint.equal { "==" } else { "!=" };
            let (key, value) = (&constraint.key, &constraint.value);
            format!("no node fits: it asks for `{key} {sign} {value}`, and this node {is}")
        })
    }

    /// What this node is instead.
    fn unmet(&self, constraint: &Constraint) -> Option<String> {
        let key = constraint.key.as_str();
        let label = key.strip_prefix("node.labels.").or_else(|| key.strip_prefix("engine.labels."));
        let is = match key {
            "node.hostname" => Some(self.hostname.as_str()),
            // It decides for itself.
            "node.role" => Some("manager"),
            "node.platform.os" => Some(self.os.as_str()),
            "node.platform.arch" => Some(self.arch.as_str()),
            _ => label.and_then(|label| self.labels.get(label)).map(String::as_str),
        };
        let wanted = SAME_ARCH
            .iter()
            .find(|(other, _)| key == "node.platform.arch" && *other == constraint.value)
            .map_or(constraint.value.as_str(), |(_, own)| own);
        let equal = is.is_some_and(|is| is.eq_ignore_ascii_case(wanted));
        (equal != constraint.equal).then(|| match (is, label) {
            (Some(is), _) => format!("has `{is}`"),
            (None, Some(label)) => format!("has no label `{label}` (MS_NODE_LABELS={label}=…)"),
            (None, None) => "has nothing of the kind".to_owned(),
        })
    }
}

impl State {
    /// Why nothing of what a service moves to may run here, if that is so.
    pub(crate) fn refusal(&self, service: &ServiceRecord) -> Option<String> {
        self.node.refuses(&self.goal(&service.name)?.definition)
    }

    /// How many instances of it this node may run: as many as are wanted, or fewer.
    pub(crate) fn wanted(&self, service: &ServiceRecord) -> u32 {
        let most =
            self.goal(&service.name).and_then(|r| r.definition.placement.replicas_per_node_max);
        most.map_or(service.desired_replicas, |most| service.desired_replicas.min(most))
    }

    /// Why there are fewer instances than are wanted, if that is so.
    pub(crate) fn shortage(&self, service: &ServiceRecord) -> Option<String> {
        if let Some(why) = self.refusal(service) {
            return Some(why);
        }
        let (wanted, desired) = (self.wanted(service), service.desired_replicas);
        (wanted < desired).then(|| {
            format!(
                "{} of {desired} are not placed: there is one node, and `max_replicas_per_node` is \
                 {wanted}",
                desired - wanted
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_held_against_this_node() {
        let node = Node {
            hostname: "Box-1".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
        };
        for (key, equal, value, fits) in [
            ("node.hostname", true, "box-1", true),
            ("node.hostname", false, "box-1", false),
            ("node.hostname", true, "other", false),
            ("node.role", true, "manager", true),
            ("node.role", true, "worker", false),
            ("node.platform.os", true, "linux", true),
            ("node.platform.arch", true, "amd64", true),
            ("node.platform.arch", true, "x86_64", true),
            ("node.platform.arch", true, "aarch64", false),
            ("node.labels.disk", true, "ssd", true),
            ("node.labels.disk", false, "ssd", false),
            ("node.labels.zone", true, "a", false),
            ("node.labels.zone", false, "a", true),
            ("engine.labels.disk", true, "ssd", true),
            ("node.id", true, "x", false),
        ] {
            let place = base::Place { file: "compose.yaml".into(), line: 1, column: 1 };
            let mut service = spec::Service::new("web".parse().unwrap(), place);
            let (key, value) = (key.to_owned(), value.to_owned());
            service.placement.constraints.push(Constraint { key, equal, value });
            let why = node.refuses(&service);
            assert_eq!(why.is_none(), fits, "{:?}: {why:?}", service.placement);
        }
    }
}
