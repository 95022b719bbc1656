//! Secrets that stand where others read them.

use base::Place;

use crate::Finding;
use crate::dockerfile::ImageRecipe;
use crate::model::Service;
use crate::report::Report;
use crate::tree::{Node, Scalar, Value};

/// Secrets that stand in the file, found in the tree because the model no longer knows whether a
/// value was written or filled in.
pub(super) fn in_file(tree: &Node, report: &mut Report) {
    let Some(services) = tree.get("services") else { return };
    for service in services.entries() {
        let build_args = service.node.get("build").and_then(|b| b.get("args"));
        let environment = service.node.get("environment");
        in_command(&service.key, &service.node, report);
        for map in [environment, build_args].into_iter().flatten() {
            let pairs = crate::merge::pairs(map.clone());
            for entry in pairs.entries() {
                let Value::Scalar(scalar) = &entry.node.value else { continue };
                if is_credential(&entry.key, scalar) {
                    let what =
                        format!("`{}` of service `{}` stands in the file", entry.key, service.key);
                    let place = report.place(entry.at);
                    let finding = Finding::warning("credential-literal", what).at(&place);
                    let cause = "whoever reads the file, or its history, has the secret";
                    let next = format!("write `${{{0}}}` and keep the value in .env", entry.key);
                    report.push(finding.cause(cause).next(next));
                }
            }
        }
    }
}

/// Passwords in URLs of a command.
fn in_command(service: &str, node: &Node, report: &mut Report) {
    for key in ["command", "entrypoint"] {
        let Some(node) = node.get(key) else { continue };
        let single = std::slice::from_ref(node);
        let words = if let Value::List(items) = &node.value { items.as_slice() } else { single };
        for word in words {
            let Value::Scalar(scalar) = &word.value else { continue };
            if scalar.literal && crate::mask::url_password(&scalar.text).is_some() {
                let what = format!("a password stands in `{key}` of service `{service}`");
                let place = report.place(word.at);
                let finding = Finding::warning("credential-literal", what).at(&place);
                let cause = "whoever reads the file, its history, or the list of processes has it";
                report.push(finding.cause(cause).next("take it from `secrets:` or a variable"));
            }
        }
    }
}

/// Secrets that a Dockerfile's ENV puts into the image.
pub(super) fn in_image(
    service: &Service,
    place: &Place,
    recipe: &ImageRecipe,
    report: &mut Report,
) {
    for (key, value) in &recipe.env {
        let scalar = Scalar { text: value.clone(), plain: false, literal: true };
        // What the Compose file says instead is judged there.
        if !service.environment.contains_key(key) && is_credential(key, &scalar) {
            let what = format!("`{key}` stands in the Dockerfile of service `{}`", service.name);
            let finding = Finding::warning("credential-literal", what).at(place);
            let cause = "whoever has the image has the secret";
            report.push(finding.cause(cause).next("give it when the service runs: `secrets:`"));
        }
    }
}

fn is_credential(key: &str, value: &Scalar) -> bool {
    if !value.literal || value.text.is_empty() {
        return false;
    }
    let key = key.to_ascii_uppercase();
    let words: Vec<&str> = key.split(['_', '-', '.']).collect();
    let secret = |w: &&str| {
        matches!(*w, "PASSWORD" | "PASSWD" | "PASSPHRASE" | "SECRET" | "TOKEN" | "APIKEY")
            || w.ends_with("PASSWORD")
    };
    let last = words.last().copied().unwrap_or_default();
    let key_of = ["API", "SECRET", "PRIVATE", "ACCESS", "ENCRYPTION", "SIGNING", "MASTER"];
    let is_key = last == "KEY" && words.iter().any(|w| key_of.contains(w));
    // A file's name, a switch or a number is no secret, whatever its key is called.
    let pointer =
        matches!(last, "FILE" | "PATH" | "URL" | "TTL" | "EXPIRY" | "LENGTH" | "NAME" | "ID");
    // Where a secret lies is no secret either.
    let harmless = value.text.starts_with("/run/secrets/")
        || matches!(value.text.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no");
    if (is_key || words.iter().any(secret)) && !pointer && !harmless {
        return true;
    }
    crate::mask::url_password(&value.text).is_some()
}
