//! Limits of each process, by the names that Compose has for them.

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
