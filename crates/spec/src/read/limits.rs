//! What a service may use and what is set aside for it, in the two ways that Compose has: keys of
//! the service (`mem_limit`, `cpus`, …) and `deploy.resources`.

use super::Reader;
use crate::model::{Limits, Swap};
use crate::report::At;
use crate::tree::Node;

/// A value and where it stands.
pub(super) type Said<T> = Option<(T, At)>;

/// What one of the two ways says.
#[derive(Default)]
pub(super) struct SaidLimits {
    pub(super) memory: Said<u64>,
    pub(super) memory_reserved: Said<u64>,
    pub(super) cpus: Said<f64>,
    pub(super) cpus_reserved: Said<f64>,
    pub(super) pids: Said<u64>,
    swap: Option<Swap>,
    shares: Option<u32>,
    cpuset: Option<String>,
    quota: Said<u64>,
    period: Option<u64>,
}

impl Reader<'_> {
    /// A key of the service about what it uses. `false` when it is none of these.
    pub(super) fn limits_key(
        &mut self,
        key: &str,
        node: &Node,
        at: At,
        owner: &str,
        limits: &mut SaidLimits,
    ) -> bool {
        let named = format!("`{key}` of {owner}");
        match key {
            "mem_limit" => limits.memory = self.memory(node, &named).map(|v| (v, at)),
            "mem_reservation" => {
                limits.memory_reserved = self.memory(node, &named).map(|v| (v, at));
            }
            "memswap_limit" => {
                let unlimited = self.text(node, &named).is_some_and(|t| t.trim() == "-1");
                limits.swap = match unlimited {
                    true => Some(Swap::Unlimited),
                    false => self.memory(node, &named).map(Swap::Bytes),
                };
            }
            "cpus" => limits.cpus = self.cpus(node, &named).map(|v| (v, at)),
            "pids_limit" => limits.pids = self.pids(node, &named).map(|v| (v, at)),
            "cpu_shares" => {
                let shares = self.small(node, &named, 262_144).filter(|n| *n > 0);
                limits.shares = shares.map(|n| n.max(2));
            }
            "cpu_quota" => {
                let unlimited = self.text(node, &named).is_some_and(|t| t.trim() == "-1");
                let quota = if unlimited { None } else { self.micros(node, &named) };
                limits.quota = quota.map(|v| (v, at));
            }
            "cpu_period" => limits.period = self.micros(node, &named),
            "cpuset" => {
                let text = self.text(node, &named).filter(|t| !t.trim().is_empty());
                let Some(text) = text else { return true };
                limits.cpuset = cpus(&text);
                if limits.cpuset.is_none() {
                    self.bad(node.at, &named, &text, "write CPUs by number, as in `0-3,7`");
                }
            }
            _ => return false,
        }
        true
    }

    /// Microseconds: a number, or a duration.
    fn micros(&mut self, node: &Node, named: &str) -> Option<u64> {
        let text = self.text(node, named)?;
        let bare = text.trim().parse::<u64>().ok();
        let read = bare.or_else(|| {
            let long = base::units::parse_duration(&text)?;
            u64::try_from(long.as_micros()).ok()
        });
        if read.is_none() {
            self.bad(node.at, named, &text, "write microseconds, as in `50000`, or `50ms`");
        }
        read.filter(|micros| *micros > 0)
    }

    /// Both ways as one. Where they differ, that is an error; `deploy` counts.
    pub(super) fn limits(&mut self, short: SaidLimits, long: SaidLimits, owner: &str) -> Limits {
        let bits = |v: Said<f64>| v.map(|(cpus, at)| (cpus.to_bits(), at));
        let quota = short.quota.map(|(quota, at)| {
            #[expect(clippy::cast_precision_loss, reason = "microseconds of seconds are small")]
            let cpus = quota as f64 / short.period.unwrap_or(100_000) as f64;
            (cpus, at)
        });
        let names = "`cpus` and `cpu_quota`";
        let own = self.one(bits(quota), bits(short.cpus), names, owner);
        let own_at = short.cpus.or(quota).map(|(_, at)| at);
        let own = own.zip(own_at);
        let limits = Limits {
            memory_bytes: self.one(
                short.memory,
                long.memory,
                "`mem_limit` and `limits.memory`",
                owner,
            ),
            memory_reserved_bytes: self.one(
                short.memory_reserved,
                long.memory_reserved,
                "`mem_reservation` and `reservations.memory`",
                owner,
            ),
            memory_and_swap: short.swap,
            cpus: self
                .one(own, bits(long.cpus), "`cpus` and `limits.cpus`", owner)
                .map(f64::from_bits),
            cpus_reserved: long.cpus_reserved.map(|(cpus, _)| cpus),
            cpu_shares: short.shares,
            cpuset: short.cpuset,
            pids: self.one(short.pids, long.pids, "`pids_limit` and `limits.pids`", owner),
        };
        let at = short.memory.or(long.memory).map(|(_, at)| at);
        if let (Some(Swap::Bytes(swap)), Some(memory), Some(at)) =
            (limits.memory_and_swap, limits.memory_bytes, at)
            && swap < memory
        {
            self.report.error(
                "bad-value",
                at,
                format!("`memswap_limit` of {owner} is less than its memory"),
                "it is memory and swap together",
                "make it at least as large as the memory",
            );
        }
        limits
    }

    /// One value said in two ways.
    pub(super) fn one(
        &mut self,
        short: Said<u64>,
        long: Said<u64>,
        names: &str,
        owner: &str,
    ) -> Option<u64> {
        if let (Some((a, at)), Some((b, _))) = (short, long)
            && a != b
        {
            self.report.error(
                "said-twice",
                at,
                format!("{owner} says {names} with different values"),
                "they mean the same",
                "keep the one under `deploy`",
            );
        }
        long.or(short).map(|(value, _)| value)
    }

    /// Cores; 0 is without limit, as for Docker.
    pub(super) fn cpus(&mut self, node: &Node, named: &str) -> Option<f64> {
        self.fraction(node, named, 4096.0).filter(|cpus| *cpus > 0.0)
    }

    /// Bytes; 0 is without limit.
    pub(super) fn memory(&mut self, node: &Node, named: &str) -> Option<u64> {
        self.bytes(node, named).filter(|bytes| *bytes > 0)
    }

    /// A count; 0 and -1 are without limit.
    pub(super) fn pids(&mut self, node: &Node, named: &str) -> Option<u64> {
        if self.text(node, named)?.trim() == "-1" {
            return None;
        }
        self.number(node, named, 1 << 22).filter(|pids| *pids > 0)
    }
}

/// CPUs by number in one spelling: `0-3,7`. `None` when the text is no such list.
fn cpus(text: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |t: &str| t.trim().parse::<u16>().ok().filter(|n| *n < 8192);
        let (first, last) = (number(first)?, number(last)?);
        match first.cmp(&last) {
            std::cmp::Ordering::Less => parts.push(format!("{first}-{last}")),
            std::cmp::Ordering::Equal => parts.push(first.to_string()),
            std::cmp::Ordering::Greater => return None,
        }
    }
    Some(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbers_and_ranges() {
        assert_eq!(cpus("0-3, 7").as_deref(), Some("0-3,7"));
        assert_eq!(cpus("1-1").as_deref(), Some("1"));
        for bad in ["", "a", "3-1", "1-", "0,", "99999"] {
            assert_eq!(cpus(bad), None, "{bad}");
        }
    }
}
