//! What must hold for any bytes that this crate reads, whoever wrote them.
//!
//! Not here: the making of bytes; `fuzz/` does that, and tests replay its seeds. Only compiled for
//! tests and under `cfg(fuzzing)`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base::Place;
use serde_json::Value;

use crate::dockerfile::{self, Action, Ignore, ImageRecipe};
use crate::{App, Files, Finding, LoadOptions, Loaded, Severity, check, dotenv, load, to_yaml};

const FOLDER: &str = "/srv/shop";

/// Errors about a whole file, an app or a command line have no place in a file.
const PLACELESS: &[&str] =
    &["env-file-unreadable", "file-unreadable", "project-name", "too-many-findings"];

/// Several files in one text: a line `%% NAME` begins each but the first.
struct Archive(BTreeMap<PathBuf, Vec<u8>>);

impl Archive {
    fn read(first: &str, bytes: &[u8]) -> Archive {
        let mut files = BTreeMap::new();
        let mut name = PathBuf::from(first);
        let mut text = Vec::new();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let next = line.strip_prefix(b"%% ").and_then(|n| std::str::from_utf8(n).ok());
            match next {
                Some(next) => {
                    let next = Path::new(FOLDER).join(next.trim());
                    files.insert(std::mem::replace(&mut name, next), std::mem::take(&mut text));
                }
                None => text.extend_from_slice(line),
            }
        }
        files.insert(name, text);
        Archive(files)
    }

    fn options(&self) -> LoadOptions {
        let second = Path::new(FOLDER).join("override.yaml");
        let second = self.0.contains_key(&second).then_some(second);
        let env = [("SET", "a value"), ("TAG", "1.2"), ("EMPTY", ""), ("PORT", "8080")];
        LoadOptions {
            files: [PathBuf::from("compose.yaml")].into_iter().chain(second).collect(),
            project_dir: Some(FOLDER.into()),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            profiles: vec!["*".to_owned()],
            ..LoadOptions::default()
        }
    }

    /// The place is one that the file has: its line, or the one after its end.
    fn has(&self, place: &Place) -> bool {
        let full = Path::new(FOLDER).join(&place.file);
        let file = self.0.get(&place.file).or_else(|| self.0.get(&full));
        file.is_some_and(|text| {
            let text = String::from_utf8_lossy(text);
            // YAML and Dockerfiles end lines with a carriage return too.
            let lines = text.chars().filter(|c| matches!(c, '\n' | '\r')).count() + 1;
            place.line >= 1 && place.column >= 1 && place.line as usize <= lines + 1
        })
    }
}

impl Files for Archive {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

/// A Compose file, with `%% override.yaml`, `%% .env`, `%% Dockerfile` and others behind it.
///
/// # Panics
/// When a finding has no good place, loading and checking disagree, or the app that was loaded is
/// another after it was written and read again.
pub fn compose(bytes: &[u8]) {
    let _ = outcome(bytes);
}

fn outcome(bytes: &[u8]) -> Result<Loaded, Vec<Finding>> {
    let files = Archive::read("compose.yaml", bytes);
    let options = files.options();
    let loaded = load(&options, &files);
    let found = match &loaded {
        Ok(loaded) => &loaded.findings,
        Err(findings) => findings,
    };
    judge(found, &files);
    let failed = |found: &[Finding]| found.iter().any(|f| f.severity == Severity::Error);
    assert_eq!(failed(found), loaded.is_err(), "an error is what refuses a file: {found:?}");
    let checked = check::check(&options, &files);
    judge(&checked, &files);
    assert_eq!(failed(&checked), loaded.is_err(), "check says more, not another: {checked:?}");
    if let Ok(loaded) = &loaded {
        reads_back(&loaded.app, files);
    }
    loaded
}

fn judge(findings: &[Finding], files: &Archive) {
    for finding in findings {
        let problem = &finding.problem;
        assert!(!problem.message.is_empty() && problem.next.is_some(), "{finding:?}");
        match &problem.place {
            Some(place) => assert!(files.has(place), "no such place: {finding:?}"),
            None => assert!(PLACELESS.contains(&problem.code.as_str()), "no place: {finding:?}"),
        }
    }
}

fn reads_back(app: &App, mut files: Archive) {
    let yaml = to_yaml(app);
    files.0.insert("compose.yaml".into(), yaml.clone().into_bytes());
    let options = LoadOptions { files: vec!["compose.yaml".into()], ..files.options() };
    let again = match load(&options, &files) {
        Ok(again) => again.app,
        Err(findings) => panic!("{findings:?}\n{yaml}"),
    };
    assert_eq!(placeless(&again), placeless(app), "{yaml}");
    assert_eq!(to_yaml(&again), yaml);
}

/// The app as JSON, without what differs because it was read from another text.
fn placeless(app: &App) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                // A label of that name is a text.
                fields.retain(|name, value| name != "place" || !value.is_object());
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let app = App { files: Vec::new(), ..app.clone() };
    let mut value = serde_json::to_value(app).expect("an app can be written");
    strip(&mut value);
    value
}

/// A Dockerfile, as it is and with its stages named by a target.
///
/// # Panics
/// When a finding has no good place, or what it says is not the same the second time.
pub fn dockerfile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files = Archive([("Dockerfile".into(), bytes.to_vec())].into());
    let parsed = match dockerfile::parse(text, "Dockerfile".as_ref(), 0) {
        Ok(parsed) => parsed,
        Err(findings) => return judge(&findings, &files),
    };
    for target in [None, Some("build"), Some("0")] {
        let args = [("VERSION".to_owned(), "1".to_owned())].into();
        match dockerfile::final_stage(&parsed, target, &args) {
            Ok(recipe) => {
                judge(&recipe.findings, &files);
                assert!(recipe.workdir.is_absolute(), "{}", recipe.workdir.display());
                assert!(recipe.volumes.iter().all(|v| v.is_absolute()), "{:?}", recipe.volumes);
            }
            // A target that is not there is the Compose file's mistake.
            Err(findings) if target.is_none() => judge(&findings, &files),
            Err(_) => {}
        }
        let plan = dockerfile::plan(&parsed, target, &args, &|_| ImageRecipe::default());
        for stage in plan.iter().flat_map(|plan| &plan.stages) {
            assert!(files.has(&stage.place), "{:?}", stage.place);
            for step in &stage.steps {
                assert!(files.has(&step.place), "{:?}", step.place);
                let absolute = match &step.action {
                    Action::Copy(copy) => copy.dest.is_absolute(),
                    Action::Folder(folder) => folder.is_absolute(),
                    Action::Run(_) => true,
                };
                assert!(absolute, "{step:?}");
            }
        }
    }
}

/// A `.dockerignore`, and behind a line `%% paths` the paths to ask it about.
///
/// # Panics
/// When a file is kept though its folder is left out for good.
pub fn dockerignore(bytes: &[u8]) {
    let files = Archive::read("ignore", bytes);
    let text = |name: &Path| String::from_utf8_lossy(files.0.get(name).map_or(&[], |b| b));
    let ignore = Ignore::parse(&text("ignore".as_ref()));
    for path in text(&Path::new(FOLDER).join("paths")).lines().take(20).map(Path::new) {
        let excluded = ignore.excluded(path, false);
        let above = path.ancestors().skip(1).any(|folder| ignore.excluded(folder, true));
        assert!(excluded || !above || ignore.takes_back(), "{}", path.display());
    }
}

/// An environment file.
///
/// # Panics
/// When a value that was read is another after it was quoted and read again, or a bad line is not
/// one of the file's.
pub fn env_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lookup = |name: &str| (name == "SET").then(|| "a value".to_owned());
    dotenv::parse_raw(text);
    match dotenv::parse(text, &lookup, &mut Vec::new()) {
        Ok(values) => {
            let quoted = |value: &str| {
                let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
                escaped.replace('$', "\\$").replace('\n', "\\n").replace('\r', "\\r")
            };
            let lines = values.iter().map(|(key, value)| format!("{key}=\"{}\"\n", quoted(value)));
            let text: String = lines.collect();
            assert_eq!(dotenv::parse(&text, &lookup, &mut Vec::new()), Ok(values), "{text}");
        }
        Err(bad) => {
            let lines = text.matches('\n').count() + 1;
            assert!(bad.iter().all(|b| (1..=lines).contains(&b.line)), "{bad:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    #[test]
    fn seeds_hold() {
        seeds("dockerfile").iter().for_each(|(_, bytes)| dockerfile(bytes));
        seeds("dockerignore").iter().for_each(|(_, bytes)| dockerignore(bytes));
        seeds("env_file").iter().for_each(|(_, bytes)| env_file(bytes));
    }

    #[test]
    fn broken_yaml_is_an_error_with_a_place_and_nothing_else_is() {
        let (mut broken, mut wrong) = (0, Vec::new());
        for (path, bytes) in seeds("compose") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let meant = name.starts_with("broken-");
            broken += usize::from(meant);
            match outcome(&bytes) {
                Ok(_) if meant => wrong.push(format!("{name} was loaded")),
                Err(found) if !meant => wrong.push(format!("{name}: {found:?}")),
                Err(found) if found[0].problem.place.is_none() => {
                    wrong.push(format!("{name} has no place: {found:?}"));
                }
                _ => {}
            }
        }
        assert!(wrong.is_empty() && broken >= 30, "{broken} broken seeds, {wrong:#?}");
    }
}
