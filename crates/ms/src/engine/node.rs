//! What is true of this machine as a node: for constraints of services.

use std::collections::BTreeMap;

use base::Problem;
use control::Node;

/// Labels of the node: `disk=ssd,zone=a`.
const LABELS: &str = "MS_NODE_LABELS";

/// This machine.
pub(super) fn this() -> Result<Node, Problem> {
    let said = std::env::var(LABELS).unwrap_or_default();
    let name = rustix::system::uname();
    Ok(Node {
        hostname: name.nodename().to_string_lossy().into_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        labels: labels(&said)?,
    })
}

fn labels(text: &str) -> Result<BTreeMap<String, String>, Problem> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let read = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(Problem::new("node-labels", format!("`{pair}` in {LABELS} is no label"))
            .with_cause("a label is a name and a value")
            .with_next(format!("{LABELS}=disk=ssd,zone=a ms up"))),
    };
    pairs.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        let read = labels(" disk=ssd, zone = a ,,").unwrap();
        let pairs: Vec<_> = read.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(pairs, ["disk=ssd", "zone=a"]);
        assert!(labels("").unwrap().is_empty());
        assert!(labels("disk").is_err() && labels("=ssd").is_err());
    }
}
