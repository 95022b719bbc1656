//! The name of an app.

use std::path::Path;

/// The name that a folder gives: lower case, only letters, digits, `-` and `_`, and no sign in
/// front. Empty when nothing is left.
pub(crate) fn from_folder(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let kept: String = name.chars().filter(|c| good(*c)).collect();
    kept.trim_start_matches(['-', '_']).chars().take(63).collect()
}

/// Whether a name that a person gave can be one.
pub(crate) fn valid(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.chars().all(good) && !name.starts_with(['-', '_'])
}

fn good(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_names() {
        for (folder, name) in [
            ("/srv/Shop", "shop"),
            ("/srv/my app.v2", "myappv2"),
            ("/srv/_x-1", "x-1"),
            ("/", ""),
            ("/ä", ""),
        ] {
            assert_eq!(from_folder(Path::new(folder)), name, "{folder}");
        }
        assert!(valid("a-b_1") && !valid("A") && !valid("-a") && !valid("") && !valid("a.b"));
    }
}
