//! Layers from small contexts.

use super::*;

struct Store {
    folder: tempfile::TempDir,
}

impl Store {
    fn new() -> Store {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("app/main.py", "main"),
            ("app/lib/a.py", "a"),
            ("app/secret.env", "s"),
            ("package.json", "{}"),
            ("package-lock.json", "{ }"),
            ("notes.txt", "n"),
        ] {
            let path = folder.path().join("context").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        symlink("/etc", folder.path().join("context/out")).unwrap();
        Store { folder }
    }

    fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    fn try_layer(&self, copies: &[(&[&str], &str)]) -> Result<PathBuf, LayerError> {
        let step = |(sources, dest): &(&[&str], &str)| CopyStep {
            sources: sources.iter().map(|s| (*s).to_owned()).collect(),
            dest: dest.into(),
            dest_is_dir: dest.ends_with('/') || sources.len() > 1,
            ..CopyStep::default()
        };
        let copies = copies.iter().map(step).collect();
        let spec = LayerSpec { context: self.context(), workdir: "/srv".into(), copies };
        let excluded = |path: &Path, _| path.extension().is_some_and(|e| e == "env");
        materialize(&spec, &excluded, &self.folder.path().join("layers"))
    }

    fn layer(&self, copies: &[(&[&str], &str)]) -> PathBuf {
        self.try_layer(copies).unwrap()
    }
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = vec![root.to_owned()];
    while let Some(folder) = next.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                next.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn folders_are_copied_by_content_and_files_by_name() {
    let store = Store::new();
    let layer = store.layer(&[
        (&["app"], "/srv"),
        (&["package*.json"], "/srv/"),
        (&["notes.txt"], "/other/renamed"),
    ]);
    let expected = [
        "other/renamed",
        "srv/lib/a.py",
        "srv/main.py",
        "srv/package-lock.json",
        "srv/package.json",
    ];
    assert_eq!(files(&layer), expected);
}

#[test]
fn the_workdir_is_there_without_copies() {
    let store = Store::new();
    assert!(store.layer(&[]).join("srv").is_dir());
}

#[test]
fn the_same_files_are_the_same_layer_and_others_are_not() {
    let store = Store::new();
    let all: &[(&[&str], &str)] = &[(&["."], "/srv")];
    let first = store.layer(all);
    assert_eq!(store.layer(all), first);
    fs::write(store.context().join("app/secret.env"), "ignored").unwrap();
    assert_eq!(store.layer(all), first);
    fs::write(store.context().join("app/main.py"), "MAIN").unwrap();
    let second = store.layer(all);
    assert_ne!(second, first);
    let main = store.context().join("app/main.py");
    fs::set_permissions(main, fs::Permissions::from_mode(0o755)).unwrap();
    let third = store.layer(all);
    assert_ne!(third, second);
}

#[test]
fn nothing_outside_is_read() {
    let store = Store::new();
    for source in ["../x", "/../x", "app/../../x"] {
        let refused = store.try_layer(&[(&[source], "/srv/")]);
        assert!(matches!(refused, Err(LayerError::Outside(_))), "{source}");
    }
    // A symlink is copied as one; a path through it finds nothing.
    let layer = store.layer(&[(&["out"], "/srv/")]);
    assert_eq!(fs::read_link(layer.join("srv/out")).unwrap(), Path::new("/etc"));
    let through = store.try_layer(&[(&["out/passwd"], "/srv/")]);
    assert!(
        through.unwrap_err().to_string().ends_with("is a symbolic link, which is not followed")
    );
}

#[test]
fn what_is_missing_is_named_with_the_reason() {
    let store = Store::new();
    let missing = store.try_layer(&[(&["nope.py"], "/srv/")]).unwrap_err().to_string();
    assert!(missing.starts_with("COPY nope.py: nothing of that name in "), "{missing}");
    let ignored = store.try_layer(&[(&["app/secret.env"], "/srv/")]).unwrap_err().to_string();
    assert!(ignored.ends_with(": .dockerignore excludes it"), "{ignored}");
}

#[test]
fn inline_text_and_modes() {
    let store = Store::new();
    let step = CopyStep {
        inline: vec![("run.sh".to_owned(), "#!/bin/sh\n".to_owned())],
        sources: vec!["notes.txt".to_owned()],
        dest: "/srv".into(),
        dest_is_dir: true,
        mode: Some(0o755),
    };
    let copies = vec![step];
    let spec = LayerSpec { context: store.context(), workdir: "/".into(), copies };
    let layer = materialize(&spec, &|_, _| false, &store.folder.path().join("layers")).unwrap();
    for name in ["srv/run.sh", "srv/notes.txt"] {
        assert_eq!(layer.join(name).metadata().unwrap().mode() & 0o777, 0o755, "{name}");
    }
}

#[test]
fn a_destination_behind_a_symlink_of_the_host_does_not_hide_it() {
    let store = Store::new();
    let link = store.folder.path().join("link");
    symlink("context", &link).unwrap();
    let layer = store.layer(&[(&["notes.txt"], &format!("{}/new/", link.display()))]);
    let real = fs::canonicalize(store.context()).unwrap().join("new/notes.txt");
    assert!(layer.join(real.strip_prefix("/").unwrap()).is_file());
    assert!(!layer.join(link.strip_prefix("/").unwrap()).exists());
}

#[test]
fn a_file_takes_the_place_of_one_that_the_host_has() {
    let store = Store::new();
    let dest = store.context().join("notes.txt");
    let layer = store.layer(&[(&["package.json"], dest.to_str().unwrap())]);
    let real = fs::canonicalize(&dest).unwrap();
    assert_eq!(fs::read_to_string(layer.join(real.strip_prefix("/").unwrap())).unwrap(), "{}");
}
