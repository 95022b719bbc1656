//! Names and numbers of signals, as files write them.

const SIGNALS: [(&str, u8); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// `SIGTERM` for `TERM`, `sigterm`, `SIGTERM` and `15`; `None` for what is no signal.
pub(crate) fn normal(text: &str) -> Option<String> {
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = name.strip_prefix("RTMIN+").and_then(|n| n.parse::<u8>().ok());
    if realtime.is_some_and(|n| n <= 30) {
        return Some(format!("SIG{name}"));
    }
    let known = SIGNALS.iter().find(|(n, number)| *n == name || number.to_string() == upper);
    known.map(|(name, _)| format!("SIG{name}"))
}

/// The number of a signal by the name that a model holds, such as `SIGTERM` or `SIGRTMIN+3`.
pub fn signal_number(name: &str) -> Option<i32> {
    /// The first real-time signal that programs may use, by the C libraries of Linux.
    const RTMIN: i32 = 34;
    let name = name.strip_prefix("SIG").unwrap_or(name);
    if let Some(above) = name.strip_prefix("RTMIN+") {
        return above.parse().ok().filter(|n| (0..=30).contains(n)).map(|n: i32| RTMIN + n);
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| i32::from(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_number() {
        for (name, number) in [("SIGTERM", 15), ("SIGABRT", 6), ("SIGRTMIN+1", 35), ("HUP", 1)] {
            assert_eq!(signal_number(name), Some(number), "{name}");
        }
        assert_eq!(signal_number("SIGNONE"), None);
        assert_eq!(signal_number("SIGRTMIN+31"), None);
    }

    #[test]
    fn signals_by_name_and_number() {
        for text in ["TERM", "sigterm", "SIGTERM", "15"] {
            assert_eq!(normal(text).as_deref(), Some("SIGTERM"), "{text}");
        }
        assert_eq!(normal("SIGRTMIN+3").as_deref(), Some("SIGRTMIN+3"));
        for text in ["", "SIG", "99", "STOPP"] {
            assert_eq!(normal(text), None, "{text}");
        }
    }
}
