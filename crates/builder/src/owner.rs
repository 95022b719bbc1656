//! `--chown` and `--chmod`, and where a user's home is.

use crate::view::View;

/// `USER[:GROUP]` by the files of an image. A user without group has the group of its own number.
pub(crate) fn owner(text: &str, view: &View) -> Result<(u32, u32), String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let look = |file: &str, name: &str| {
        let text = view.text(file);
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        })
    };
    let user_id = user.parse().ok().or_else(|| look("/etc/passwd", user));
    let user_id = user_id.ok_or_else(|| format!("the image has no user `{user}`"))?;
    let group_id = match group {
        None => user_id,
        Some(group) => {
            let id = group.parse().ok().or_else(|| look("/etc/group", group));
            id.ok_or_else(|| format!("the image has no group `{group}`"))?
        }
    };
    Ok((user_id, group_id))
}

/// The home folder of USER, by the image's own files.
pub(crate) fn home(user: Option<&str>, view: &View) -> String {
    let user = user.map_or("root", |user| user.split(':').next().unwrap_or(user));
    let passwd = view.text("/etc/passwd");
    let of = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_meant = fields.first() == Some(&user) || fields.get(2) == Some(&user);
        is_meant.then(|| fields.get(5).map(|home| (*home).to_owned()))?
    };
    let found = passwd.lines().find_map(of).filter(|home| !home.is_empty());
    found.unwrap_or_else(|| if matches!(user, "root" | "0") { "/root" } else { "/" }.to_owned())
}

/// The permissions that `--chmod` makes of a file's own: octal, or such as `u=rwX,go-w`.
pub(crate) fn permissions(text: &str, own: u32, is_folder: bool) -> Option<u32> {
    if let Ok(octal) = u32::from_str_radix(text, 8) {
        return (octal <= 0o7777).then_some(octal);
    }
    let mut mode = own;
    for clause in text.split(',') {
        let split = clause.find(['+', '-', '='])?;
        let (who, rest) = clause.split_at(split);
        let mut mask = 0;
        for c in who.chars() {
            mask |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            };
        }
        if who.is_empty() {
            mask = 0o7777;
        }
        let mut bits = 0;
        for c in rest[1..].chars() {
            bits |= match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_folder || mode & 0o111 != 0 => 0o111,
                'X' => 0,
                's' => 0o6000,
                't' => 0o1000,
                _ => return None,
            };
        }
        match rest.as_bytes()[0] {
            b'+' => mode |= bits & mask,
            b'-' => mode &= !(bits & mask),
            _ => mode = (mode & !(mask & 0o777)) | (bits & mask),
        }
    }
    Some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_in_both_forms() {
        for (text, own, is_folder, expected) in [
            ("755", 0o600, false, Some(0o755)),
            ("0644", 0o777, false, Some(0o644)),
            ("+x", 0o644, false, Some(0o755)),
            ("u=rwX,go=rX", 0o600, true, Some(0o755)),
            ("u=rwX,go=rX", 0o600, false, Some(0o644)),
            ("go-w", 0o666, false, Some(0o644)),
            ("a+rx,u+s", 0o600, false, Some(0o4755)),
            ("8", 0, false, None),
            ("x", 0, false, None),
            ("u+q", 0, false, None),
            ("77777", 0, false, None),
        ] {
            assert_eq!(permissions(text, own, is_folder), expected, "{text}");
        }
    }

    #[test]
    fn owners_and_homes_by_the_images_files() {
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:50::/home/app:/bin/sh\n";
        std::fs::write(image.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(image.path().join("etc/group"), "staff:x:50:\n").unwrap();
        let view = View::of(image.path());
        assert_eq!(owner("app", &view), Ok((1000, 1000)));
        assert_eq!(owner("app:staff", &view), Ok((1000, 50)));
        assert_eq!(owner("7:8", &view), Ok((7, 8)));
        assert_eq!(owner("eve", &view), Err("the image has no user `eve`".to_owned()));
        assert_eq!(owner("0:none", &view), Err("the image has no group `none`".to_owned()));
        for (user, at) in
            [(None, "/root"), (Some("app:staff"), "/home/app"), (Some("1000"), "/home/app")]
        {
            assert_eq!(home(user, &view), at);
        }
        assert_eq!(home(Some("5"), &view), "/");
    }
}
