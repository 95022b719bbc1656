//! Findings as SARIF 2.1.0, the form in which code hosts and editors take them. Pure.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};
use spec::{Finding, Severity};

/// One run with every finding. Files are named from `folder`.
pub(crate) fn report(findings: &[Finding], folder: &Path) -> Value {
    let codes: BTreeSet<&str> = findings.iter().map(|f| f.problem.code.as_str()).collect();
    let rules: Vec<Value> = codes.iter().map(|code| rule(code)).collect();
    let index = |code: &str| codes.iter().position(|known| *known == code);
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let problem = &finding.problem;
            let mut text = problem.message.clone();
            for more in [&problem.cause, &problem.next].into_iter().flatten() {
                let _ = write!(text, "\n{more}");
            }
            let mut result = json!({
                "ruleId": problem.code,
                "ruleIndex": index(&problem.code),
                "level": level(finding.severity),
                "message": { "text": text },
            });
            if let Some(place) = &problem.place {
                result["locations"] = json!([{
                    "physicalLocation": {
                        "artifactLocation": artifact(&place.file),
                        "region": { "startLine": place.line, "startColumn": place.column },
                    }
                }]);
            }
            result
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "ms check",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "originalUriBaseIds": { "ROOT": { "uri": format!("file://{}/", uri(folder)) } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(code: &str) -> Value {
    let text = super::explain::text(code).unwrap_or_default();
    let first = text.split_once(". ").map_or(text.as_str(), |(first, _)| first);
    json!({
        "id": code,
        "shortDescription": { "text": format!("{}.", first.trim_end_matches('.')) },
        "fullDescription": { "text": text },
        "help": { "text": format!("ms explain {code}") },
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A file below the folder is named from it, so that the report means the same elsewhere.
fn artifact(file: &Path) -> Value {
    match file.is_absolute() {
        true => json!({ "uri": format!("file://{}", uri(file)) }),
        false => json!({ "uri": uri(file), "uriBaseId": "ROOT" }),
    }
}

/// A path as that of a URI.
fn uri(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use base::Place;

    use super::*;

    #[test]
    fn every_finding_is_a_result_with_its_rule() {
        let place = Place { file: "sub dir/compose.yaml".into(), line: 3, column: 5 };
        let far = Place { file: "/etc/x.yaml".into(), line: 1, column: 1 };
        let findings = [
            Finding::error("bad-value", "it is bad").at(&place).cause("why").next("mend it"),
            Finding::note("no-memory-limit", "none").at(&far),
            Finding::warning("bad-value", "again"),
        ];
        let report = report(&findings, Path::new("/srv/shop"));
        assert_eq!(report["version"], "2.1.0");
        let run = &report["runs"][0];
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 2);
        assert!(rules.iter().all(|r| r["fullDescription"]["text"].as_str().unwrap().len() > 20));
        let results = run["results"].as_array().unwrap();
        assert_eq!(results.len(), 3);
        for (result, finding) in results.iter().zip(&findings) {
            let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
            assert_eq!(rule["id"], result["ruleId"]);
            assert_eq!(result["ruleId"], finding.problem.code);
        }
        assert_eq!(results[0]["level"], "error");
        assert_eq!(results[0]["message"]["text"], "it is bad\nwhy\nmend it");
        let at = &results[0]["locations"][0]["physicalLocation"];
        assert_eq!(at["artifactLocation"]["uri"], "sub%20dir/compose.yaml");
        assert_eq!(at["region"]["startLine"], 3);
        let far = &results[1]["locations"][0]["physicalLocation"]["artifactLocation"];
        assert_eq!(far["uri"], "file:///etc/x.yaml");
        assert!(results[2].get("locations").is_none(), "a finding without a place");
    }
}
