//! Capabilities: names, and which of them an instance has.

use std::collections::BTreeSet;

use crate::spec::Rights;

/// A bit per capability.
pub(crate) type Capabilities = u64;

/// By number, from 0.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const ALL: Capabilities = (1 << NAMES.len()) - 1;

/// What root in an instance may do: Docker's default set without MKNOD and `NET_RAW`, since devices
/// and the network are the host's.
const USUAL: Capabilities = bit(0) // CHOWN
    | bit(1) // DAC_OVERRIDE
    | bit(3) // FOWNER
    | bit(4) // FSETID
    | bit(5) // KILL
    | bit(6) // SETGID
    | bit(7) // SETUID
    | bit(8) // SETPCAP
    | NET_BIND_SERVICE
    | bit(18) // SYS_CHROOT
    | bit(29) // AUDIT_WRITE
    | bit(31); // SETFCAP

/// To listen on ports below 1024.
pub(crate) const NET_BIND_SERVICE: Capabilities = bit(10);

const fn bit(number: u32) -> Capabilities {
    1 << number
}

/// The capability of that name, with or without `CAP_`; `ALL` is all of them. Zero is none.
pub(crate) fn named(name: &str) -> Capabilities {
    let upper = name.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match NAMES.iter().position(|known| *known == name) {
        Some(number) => 1 << number,
        None if name == "ALL" => ALL,
        None => 0,
    }
}

/// The names of these, for people.
pub(crate) fn names_of(capabilities: Capabilities) -> String {
    let all = NAMES.iter().enumerate();
    let each = all.filter(|(number, _)| capabilities & (1 << number) != 0).map(|(_, name)| *name);
    each.collect::<Vec<_>>().join(", ")
}

/// What an instance with these rights has. What is both given and taken by name is given, unless
/// everything is given.
pub(crate) fn of(rights: &Rights) -> Capabilities {
    let sum = |names: &BTreeSet<String>| names.iter().fold(0, |sum, name| sum | named(name));
    let (given, taken) = (sum(&rights.cap_add), sum(&rights.cap_drop));
    if rights.privileged {
        ALL
    } else if given == ALL {
        ALL & !taken
    } else {
        (USUAL & !taken) | given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_and_taken() {
        let of = |add: &[&str], drop: &[&str]| {
            let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
            of(&Rights { cap_add: set(add), cap_drop: set(drop), ..Rights::default() })
        };
        assert_eq!(of(&[], &[]), 0xa004_05fb);
        assert_eq!(of(&[], &["ALL"]), 0);
        assert_eq!(of(&["NET_BIND_SERVICE"], &["ALL"]), NET_BIND_SERVICE);
        assert_eq!(of(&["cap_net_admin"], &[]), 0xa004_05fb | 1 << 12);
        assert_eq!(of(&["ALL"], &["SYS_ADMIN"]), ALL & !(1 << 21));
        assert_eq!(names_of(1 | 1 << 21), "CHOWN, SYS_ADMIN");
        assert_eq!((named("no such"), named("CHECKPOINT_RESTORE")), (0, 1 << 40));
    }
}
