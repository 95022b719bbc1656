//! Limits of each process, by the names that Compose has for them, and who is killed first.

use std::collections::BTreeMap;

use crate::sys;

/// Without limit, as the kernel says it.
const INFINITE: u64 = u64::MAX;

/// The kernel's number of a limit.
fn number(name: &str) -> Option<u32> {
    Some(match name {
        "cpu" => libc::RLIMIT_CPU,
        "fsize" => libc::RLIMIT_FSIZE,
        "data" => libc::RLIMIT_DATA,
        "stack" => libc::RLIMIT_STACK,
        "core" => libc::RLIMIT_CORE,
        "rss" => libc::RLIMIT_RSS,
        "nproc" => libc::RLIMIT_NPROC,
        "nofile" => libc::RLIMIT_NOFILE,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "as" => libc::RLIMIT_AS,
        "locks" => libc::RLIMIT_LOCKS,
        "sigpending" => libc::RLIMIT_SIGPENDING,
        "msgqueue" => libc::RLIMIT_MSGQUEUE,
        "nice" => libc::RLIMIT_NICE,
        "rtprio" => libc::RLIMIT_RTPRIO,
        "rttime" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}

/// Number, soft and hard of each, for the program. What cannot be had whole is said.
pub(super) fn of(
    asked: &BTreeMap<String, (Option<u64>, Option<u64>)>,
    warnings: &mut Vec<String>,
) -> Vec<(u32, u64, u64)> {
    let mut limits = Vec::new();
    for (name, (soft, hard)) in asked {
        let Some(number) = number(name) else {
            warnings.push(format!("no limit `{name}`: there is none of that name"));
            continue;
        };
        let (soft, hard) = (soft.unwrap_or(INFINITE), hard.unwrap_or(INFINITE));
        let most = sys::hard_limit_max(number, hard);
        if most < hard {
            let show = |value: u64| match value {
                INFINITE => "no limit".to_owned(),
                value => value.to_string(),
            };
            warnings.push(format!(
                "its limit `{name}` is {} instead of {}: this engine may not raise it",
                show(most),
                show(hard)
            ));
        }
        limits.push((number, soft.min(most), hard.min(most)));
    }
    limits
}

/// How willingly this process and its children are killed for want of memory: of these the
/// largest, which is never a shim. Only who may can be spared more than the engine is.
pub(super) fn prefer(score: Option<i32>, warnings: &mut Vec<String>) {
    const FILE: &str = "/proc/self/oom_score_adj";
    let Some(wanted) = score.map(|score| score.clamp(-1000, 1000)) else { return };
    if let Err(e) = std::fs::write(FILE, wanted.to_string()) {
        let now = std::fs::read_to_string(FILE).unwrap_or_default();
        warnings.push(format!("oom_score_adj is {} instead of {wanted}: {e}", now.trim()));
    }
}
