//! Profiles of Docker's form as filters.
//!
//! One filter per action, all of which the kernel asks: the strictest answer counts, and of two
//! that refuse, the one put in place last.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use seccompiler::{BpfProgram, TargetArch};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Program, instruction};
use crate::rights::{self, Capabilities};

/// Longest profile, in bytes; Docker's own has 16 KiB.
const FILE_BYTES_MAX: u64 = 256 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: When,
    #[serde(default)]
    excludes: When,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct When {
    caps: Vec<String>,
    arches: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// The filters of a profile for an instance with these capabilities.
pub(super) fn read(path: &Path, has: Capabilities) -> Result<Vec<Program>, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err("longer than 256 KiB".to_owned());
    }
    build(&text, has)
}

fn build(text: &str, has: Capabilities) -> Result<Vec<Program>, String> {
    let profile: Profile = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    // By action, in the order of the file: rules of each call.
    let mut groups: Vec<(Value, BTreeMap<&str, Vec<Value>>)> = Vec::new();
    let mut unknown = BTreeSet::new();
    for rule in profile.syscalls.iter().filter(|rule| rule.applies(has)) {
        let then = action(&rule.action, rule.errno_ret)?;
        if then == default {
            continue;
        }
        let at = groups.iter().position(|(group, _)| *group == then).unwrap_or_else(|| {
            groups.push((then.clone(), BTreeMap::new()));
            groups.len() - 1
        });
        let conditions = rule.args.iter().flatten().map(Argument::condition);
        let conditions = Value::Array(conditions.collect::<Result<_, _>>()?);
        for name in rule.names.iter().chain(&rule.name) {
            if unknown.contains(name) || !is_known(name, arch) {
                // Of another machine, or newer than the table.
                unknown.insert(name.clone());
                continue;
            }
            groups[at].1.entry(name).or_default().push(conditions.clone());
        }
    }
    let is_allow = |then: &Value| *then == "allow";
    // What is let through is what remains of the default, so it comes first.
    groups.sort_by_key(|(then, _)| !is_allow(then));
    if default != "allow" && !groups.first().is_some_and(|(then, _)| is_allow(then)) {
        return Err("it lets no system call through".to_owned());
    }
    let filters = groups.iter().map(|(then, calls)| {
        let otherwise = if is_allow(then) { &default } else { &json!("allow") };
        let rules: Vec<_> = calls.iter().flat_map(|(name, rules)| rules_of(name, rules)).collect();
        compile(&json!({"mismatch_action": otherwise, "match_action": then, "filter": rules}), arch)
    });
    filters.collect()
}

impl Rule {
    fn applies(&self, has: Capabilities) -> bool {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let some = |caps: &[String]| caps.iter().any(|cap| rights::named(cap) & has != 0);
        let here = |arches: &[String]| arches.iter().any(|a| a == arch);
        (self.includes.caps.is_empty() || some(&self.includes.caps))
            && (self.includes.arches.is_empty() || here(&self.includes.arches))
            && !some(&self.excludes.caps)
            && !here(&self.excludes.arches)
    }
}

impl Argument {
    fn condition(&self) -> Result<Value, String> {
        let (op, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (json!("eq"), self.value),
            "SCMP_CMP_NE" => (json!("ne"), self.value),
            "SCMP_CMP_LT" => (json!("lt"), self.value),
            "SCMP_CMP_LE" => (json!("le"), self.value),
            "SCMP_CMP_GE" => (json!("ge"), self.value),
            "SCMP_CMP_GT" => (json!("gt"), self.value),
            "SCMP_CMP_MASKED_EQ" => (json!({"masked_eq": self.value}), self.value_two),
            other => return Err(format!("unknown comparison `{other}`")),
        };
        Ok(json!({"index": self.index, "type": "qword", "op": op, "val": value}))
    }
}

/// An action in the compiler's words.
fn action(name: &str, errno: Option<u32>) -> Result<Value, String> {
    let errno = errno.unwrap_or(libc::EPERM.cast_unsigned());
    Ok(match name {
        "SCMP_ACT_ALLOW" => json!("allow"),
        "SCMP_ACT_ERRNO" => json!({ "errno": errno }),
        "SCMP_ACT_LOG" => json!("log"),
        "SCMP_ACT_TRAP" => json!("trap"),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => json!("kill_thread"),
        "SCMP_ACT_KILL_PROCESS" => json!("kill_process"),
        other => return Err(format!("unknown action `{other}`")),
    })
}

/// The rules of one call; one that always applies makes the others needless.
fn rules_of(name: &str, rules: &[Value]) -> Vec<Value> {
    if rules.iter().any(|conditions| *conditions == json!([])) {
        return vec![json!({ "syscall": name })];
    }
    rules.iter().map(|conditions| json!({"syscall": name, "args": conditions})).collect()
}

fn is_known(name: &str, arch: TargetArch) -> bool {
    let filter = json!({
        "mismatch_action": "allow",
        "match_action": "log",
        "filter": [{ "syscall": name }],
    });
    compile(&filter, arch).is_ok()
}

fn compile(filter: &Value, arch: TargetArch) -> Result<Program, String> {
    let text = json!({ "all": filter }).to_string();
    let built = seccompiler::compile_from_json(text.as_bytes(), arch);
    let mut built = built.map_err(|e| e.to_string())?;
    let code: BpfProgram = built.remove("all").ok_or("nothing was compiled")?;
    Ok(code.iter().map(|i| instruction(i.code, i.jt, i.jf, i.k)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let of = |text: &str| build(text, 0).unwrap_err();
        assert!(of("{").contains("EOF"));
        assert_eq!(of(r#"{"defaultAction":"SCMP_ACT_WISH"}"#), "unknown action `SCMP_ACT_WISH`");
        assert_eq!(of(r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#), "it lets no system call through");
        let strange = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
            "action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_ODD"}]}]}"#;
        assert_eq!(of(strange), "unknown comparison `SCMP_CMP_ODD`");
    }

    #[test]
    fn one_filter_per_action_what_allows_first() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
            {"names":["read","no_such_call"],"action":"SCMP_ACT_ALLOW","args":null},
            {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
        let bare = build(text, 0).unwrap();
        let admin = build(text, rights::named("SYS_ADMIN")).unwrap();
        assert_eq!((bare.len(), admin.len()), (2, 2));
        assert!(admin[0].len() > bare[0].len() && admin[1] == bare[1]);
    }
}
