//! Secrets and configs: what a service is given as files.
//!
//! A file of the host is shown as it is. What a variable or the Compose file holds, and a file whose
//! owner or permissions the service wants otherwise, is written into the state folder first, under
//! a name made of all that decides it, so that a release finds its own again.
//!
//! Not here: who may know a secret. The folder is the engine's own; an instance sees only its
//! files, read-only.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base::Problem;
use sha2::{Digest, Sha256};
use spec::Service;
use spec::model::{FileSource, Grant};

/// Larger secrets and configs are refused: they are no place for data.
const BYTES_MAX: u64 = 1 << 20;
/// Permission bits of a file that says no others.
const MODE: u32 = 0o444;

/// Where they are kept in a state folder.
pub(super) fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("given")
}

/// The mounts that show a service what it is given.
pub(super) fn mounts(definition: &Service, state_dir: &Path) -> Vec<agent::Mount> {
    let each = definition.secrets.iter().chain(&definition.configs);
    each.map(|grant| agent::Mount {
        source: agent::MountSource::Path(kept(grant, state_dir)),
        target: grant.target.clone(),
        read_only: true,
    })
    .collect()
}

/// Whether everything that a service is given is there.
pub(super) fn check(definition: &Service) -> Result<(), Problem> {
    for grant in definition.secrets.iter().chain(&definition.configs) {
        let FileSource::File(path) = &grant.content else { continue };
        let bad = |cause: String| {
            let what = format!("`{}` cannot have `{}`", definition.name, grant.source);
            Problem::new("file-unreadable", what)
                .with_place(grant.place.clone())
                .with_cause(cause)
                .with_next("make the file, or name another below `secrets:` or `configs:`")
        };
        let metadata = fs::metadata(path).map_err(|e| bad(format!("{}: {e}", path.display())))?;
        if metadata.is_file() && metadata.len() > BYTES_MAX && copied(grant) {
            return Err(bad(format!("{} is larger than 1 MiB", path.display())));
        }
    }
    Ok(())
}

/// Writes what is not a file of the host as it is.
pub(super) fn write(definition: &Service, state_dir: &Path) -> Result<(), String> {
    for grant in definition.secrets.iter().chain(&definition.configs).filter(|g| copied(g)) {
        let path = kept(grant, state_dir);
        lay_out(grant, &path).map_err(|e| format!("cannot give it `{}`: {e}", grant.source))?;
    }
    Ok(())
}

fn lay_out(grant: &Grant, path: &Path) -> io::Result<()> {
    let content = match &grant.content {
        FileSource::Variable { value, .. } | FileSource::Content(value) => value.clone().into(),
        FileSource::File(source) => {
            let mut bytes = Vec::new();
            fs::File::open(source)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > BYTES_MAX {
                return Err(io::Error::other("it is larger than 1 MiB"));
            }
            bytes
        }
        FileSource::External | FileSource::Unset { .. } => {
            return Err(io::Error::other("it has no content here"));
        }
    };
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Under another name first: an instance that runs keeps the file that it was shown.
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&content)?;
    let id = |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok());
    std::os::unix::fs::fchown(&file, id(&grant.uid), id(&grant.gid))?;
    file.set_permissions(fs::Permissions::from_mode(grant.mode.unwrap_or(MODE)))?;
    fs::rename(&new, path)
}

/// Whether a copy is shown instead of a file of the host.
fn copied(grant: &Grant) -> bool {
    let plain = grant.uid.is_none() && grant.gid.is_none() && grant.mode.is_none();
    !(plain && matches!(grant.content, FileSource::File(_)))
}

/// What is shown.
fn kept(grant: &Grant, state_dir: &Path) -> PathBuf {
    if let (FileSource::File(path), false) = (&grant.content, copied(grant)) {
        return path.clone();
    }
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        // With its length, so that no two lists of fields look alike.
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    match &grant.content {
        FileSource::File(path) => field(path.as_os_str().as_encoded_bytes()),
        FileSource::Variable { value, .. } | FileSource::Content(value) => field(value.as_bytes()),
        FileSource::External | FileSource::Unset { .. } => field(b""),
    }
    field(&[u8::from(matches!(grant.content, FileSource::File(_)))]);
    let meta = (&grant.uid, &grant.gid, grant.mode.unwrap_or(MODE));
    field(format!("{meta:?}").as_bytes());
    let name: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    folder(state_dir).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(content: FileSource, mode: Option<u32>) -> Service {
        let place = base::Place { file: "compose.yaml".into(), line: 1, column: 1 };
        let mut service = Service::new("a".parse().unwrap(), place.clone());
        let target = "/run/secrets/s".into();
        let grant =
            Grant { source: "s".into(), content, target, uid: None, gid: None, mode, place };
        service.secrets.push(grant);
        service
    }

    #[test]
    fn what_is_written_is_shown_with_its_permissions() {
        let state = tempfile::tempdir().unwrap();
        let variable = |value: &str| FileSource::Variable { name: "S".into(), value: value.into() };
        let (one, other) = (service(variable("one"), Some(0o400)), service(variable("two"), None));
        for (service, content, mode) in [(&one, "one", 0o400), (&other, "two", 0o444)] {
            write(service, state.path()).unwrap();
            write(service, state.path()).unwrap();
            let mounts = mounts(service, state.path());
            let agent::MountSource::Path(path) = &mounts[0].source else { panic!("{mounts:?}") };
            assert!(mounts[0].read_only);
            assert_eq!(fs::read_to_string(path).unwrap(), content);
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode);
        }
        assert_eq!(fs::read_dir(folder(state.path())).unwrap().count(), 2, "and nothing else");
        let of_folder = fs::metadata(folder(state.path())).unwrap().permissions().mode();
        assert_eq!(of_folder & 0o777, 0o700);
    }

    #[test]
    fn a_file_is_shown_as_it_is_or_copied() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("s.txt");
        let plain = service(FileSource::File(path.clone()), None);
        let problem = check(&plain).unwrap_err();
        assert!(problem.place.is_some() && problem.cause.unwrap().contains("s.txt"));
        fs::write(&path, "content").unwrap();
        check(&plain).unwrap();
        let shown = &mounts(&plain, state.path())[0].source;
        assert_eq!(*shown, agent::MountSource::Path(path.clone()));
        let other = service(FileSource::File(path.clone()), Some(0o440));
        write(&other, state.path()).unwrap();
        let agent::MountSource::Path(copy) = &mounts(&other, state.path())[0].source else {
            panic!("no path")
        };
        assert_ne!(*copy, path);
        assert_eq!(fs::read_to_string(copy).unwrap(), "content");
        fs::File::create(&path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        assert!(check(&other).is_err() && write(&other, state.path()).is_err());
        check(&plain).unwrap();
    }
}
