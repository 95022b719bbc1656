//! How many files and sockets this process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Asks for `wanted` open files, as far as the hard limit goes, and returns how many are allowed.
/// A limit that is higher already stays.
pub fn descriptors(wanted: u64) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    let more = wanted.min(hard);
    match soft < more && setrlimit(Resource::RLIMIT_NOFILE, more, hard).is_ok() {
        true => more,
        false => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_as_far_as_it_goes_and_never_lowered() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(descriptors(1), soft);
        let raised = descriptors(u64::MAX);
        assert_eq!(raised, hard);
        assert_eq!(descriptors(1), raised);
    }
}
