//! Who the program runs as, by the files that the instance itself sees.

use std::fs;
use std::io::{self, BufRead};

/// Numbers for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Longest `passwd` or `group` file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Looks up `user`, `uid`, `user:group` or `uid:gid` in `/etc/passwd` and `/etc/group`.
/// `more` are groups beside those that the user is in.
pub(super) fn look_up(text: &str, more: &[String]) -> Result<Ids, String> {
    let read = |path: &str| -> Vec<String> {
        let file = fs::File::open(path).map(|file| io::Read::take(file, FILE_BYTES_MAX));
        let lines = file.map(|file| io::BufReader::new(file).lines().map_while(Result::ok));
        lines.map(Iterator::collect).unwrap_or_default()
    };
    let group = read("/etc/group");
    let mut ids = find(text, &read("/etc/passwd"), &group)?;
    for name in more {
        let ids_of = find(&format!("0:{name}"), &[], &group)?;
        ids.groups.extend(ids_of.groups);
    }
    ids.groups.sort_unstable();
    ids.groups.dedup();
    Ok(ids)
}

/// Whether this process may become them: root may, except those that its user namespace lacks.
pub(super) fn may_become(ids: &Ids) -> bool {
    let lists = |file: &str, id: u32| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
            let (first, length) = (numbers.next(), numbers.nth(1));
            let (Some(Ok(first)), Some(Ok(length))) = (first, length) else { return false };
            (first..first.saturating_add(length)).contains(&u64::from(id))
        })
    };
    let may_set_groups =
        fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() == "allow");
    rustix::process::geteuid().is_root()
        && may_set_groups
        && lists("/proc/self/uid_map", ids.uid)
        && ids.groups.iter().chain([&ids.gid]).all(|gid| lists("/proc/self/gid_map", *gid))
}

fn find(text: &str, passwd: &[String], group: &[String]) -> Result<Ids, String> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let number: Option<u32> = user.parse().ok();
    let entry = passwd.iter().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        let uid = fields.get(2).and_then(|uid| uid.parse().ok());
        fields.first() == Some(&user) || (number.is_some() && uid == number)
    });
    let field = |at: usize| entry.as_ref().and_then(|f| f.get(at)?.parse::<u32>().ok());
    let uid = number.or_else(|| field(2)).ok_or_else(|| format!("no user `{user}`"))?;
    let name = entry.as_ref().and_then(|fields| fields.first().copied());
    let groups = || group.iter().map(|line| line.split(':').collect::<Vec<_>>());
    let gid_of = |fields: &[&str]| fields.get(2).and_then(|gid| gid.parse::<u32>().ok());
    match wanted_group {
        Some(wanted) => {
            let named = groups().find(|fields| fields.first() == Some(&wanted));
            let gid = wanted.parse().ok().or_else(|| gid_of(&named?));
            let gid = gid.ok_or_else(|| format!("no group `{wanted}`"))?;
            Ok(Ids { uid, gid, groups: vec![gid] })
        }
        None => {
            // A number without an entry has group 0, as in a container.
            let gid = field(3).unwrap_or(0);
            let member = |fields: &[&str]| {
                fields.get(3).is_some_and(|all| all.split(',').any(|m| Some(m) == name))
            };
            let others = groups().filter(|fields| member(fields)).filter_map(|f| gid_of(&f));
            let mut all: Vec<u32> = std::iter::once(gid).chain(others).collect();
            all.sort_unstable();
            all.dedup();
            all.truncate(256);
            Ok(Ids { uid, gid, groups: all })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let file = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let passwd = file("root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh");
        let group = file("root:x:0:\nusers:x:100:\nwheel:x:10:bob,ann\nstaff:x:50:");
        let ids = |uid, gid, groups: &[u32]| Ok(Ids { uid, gid, groups: groups.to_vec() });
        let find = |text| find(text, &passwd, &group);
        assert_eq!(find("ann"), ids(1000, 100, &[10, 100]));
        assert_eq!(find("1000"), ids(1000, 100, &[10, 100]));
        assert_eq!(find("ann:staff"), ids(1000, 50, &[50]));
        assert_eq!(find("5000"), ids(5000, 0, &[0]));
        assert_eq!(find("5000:6000"), ids(5000, 6000, &[6000]));
        assert_eq!(find("eve"), Err("no user `eve`".to_owned()));
        assert_eq!(find("ann:none"), Err("no group `none`".to_owned()));
    }
}
