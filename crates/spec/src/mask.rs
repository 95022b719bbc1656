//! A service as it may be shown: without its secrets.
//!
//! Three things are secret: what a secret or a variable with a telling name holds, wherever else in
//! the service the same text stands, and the password of any URL. Not here: lines of output.

use crate::model::{App, FileSource, Service, Test};

/// What stands for a secret.
const MASK: &str = "***";
/// Shorter values are not looked for elsewhere: they would hide half of everything.
const LOOKED_FOR_MIN: usize = 6;

/// The service with every secret in it masked.
#[must_use]
pub fn masked(service: &Service) -> Service {
    let mut shown = service.clone();
    let mut secrets: Vec<String> = Vec::new();
    let of_build = shown.build.iter_mut().flat_map(|build| &mut build.secrets);
    for grant in shown.secrets.iter_mut().chain(&mut shown.configs).chain(of_build) {
        if let FileSource::Variable { value, .. } = &mut grant.content {
            secrets.push(std::mem::replace(value, MASK.to_owned()));
        }
    }
    let named = shown.environment.iter().filter(|(name, _)| is_secret_name(name));
    secrets.extend(named.map(|(_, value)| value.clone()));
    secrets.extend(shown.environment.values().filter_map(|v| url_password(v)).map(str::to_owned));
    secrets.retain(|secret| secret.len() >= LOOKED_FOR_MIN);
    // What holds another is masked whole.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for (name, value) in &mut shown.environment {
        match is_secret_name(name) && !value.is_empty() {
            true => MASK.clone_into(value),
            false => hide(value, &secrets),
        }
    }
    texts(&mut shown, &mut |text| hide(text, &secrets));
    shown
}

/// The app without what variables gave its secrets. The rest is what the person wrote.
#[must_use]
pub fn hidden(mut app: App) -> App {
    let grants = app.services.values_mut().flat_map(|s| {
        let of_build = s.build.iter_mut().flat_map(|build| &mut build.secrets);
        s.secrets.iter_mut().chain(&mut s.configs).chain(of_build)
    });
    let defs = app.secrets.values_mut().chain(app.configs.values_mut());
    for source in grants.map(|g| &mut g.content).chain(defs.map(|d| &mut d.source)) {
        if let FileSource::Variable { value, .. } = source {
            MASK.clone_into(value);
        }
    }
    app
}

/// Calls `each` on every text beside the environment in which people put secrets.
fn texts(service: &mut Service, each: &mut dyn FnMut(&mut String)) {
    let commands = [&mut service.command, &mut service.entrypoint];
    commands.into_iter().flatten().flatten().for_each(&mut *each);
    service.extension.prepare.iter_mut().flatten().for_each(&mut *each);
    service.extension.engine.iter_mut().for_each(&mut *each);
    service.labels.values_mut().chain(service.annotations.values_mut()).for_each(&mut *each);
    if let Some(build) = &mut service.build {
        for (name, value) in &mut build.args {
            match is_secret_name(name) {
                true => MASK.clone_into(value),
                false => each(value),
            }
        }
    }
    match service.healthcheck.as_mut().map(|check| &mut check.test) {
        Some(Test::Exec(words)) => words.iter_mut().for_each(&mut *each),
        Some(Test::Shell(line)) => each(line),
        Some(Test::None) | None => {}
    }
    let hooks = &mut service.hooks;
    for hook in hooks.pre_start.iter_mut().chain(&mut hooks.post_start).chain(&mut hooks.pre_stop) {
        hook.command.iter_mut().for_each(&mut *each);
        for (name, value) in &mut hook.environment {
            match is_secret_name(name) {
                true => MASK.clone_into(value),
                false => each(value),
            }
        }
    }
    for grant in &mut service.configs {
        if let FileSource::Content(text) = &mut grant.content {
            each(text);
        }
    }
}

fn hide(text: &mut String, secrets: &[String]) {
    for secret in secrets.iter().filter(|secret| secret.as_str() != MASK) {
        if text.contains(secret.as_str()) {
            *text = text.replace(secret.as_str(), MASK);
        }
    }
    if let Some(password) = url_password(text).filter(|p| *p != MASK) {
        // Only in its place: a short one may stand for something else.
        let start = password.as_ptr() as usize - text.as_ptr() as usize;
        let end = start + password.len();
        text.replace_range(start..end, MASK);
    }
}

/// Whether a variable of this name is one that holds a secret.
fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 8] =
        ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "JAAS"];
    let upper = name.to_ascii_uppercase();
    WORDS.iter().any(|word| upper.contains(word))
}

/// The password of `scheme://user:password@host`.
pub(crate) fn url_password(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#', ' ', '"', '\'']).next()?;
    let (account, _) = authority.rsplit_once('@')?;
    account.split_once(':').map(|(_, password)| password).filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(environment: &[(&str, &str)], command: &[&str]) -> Service {
        let place = base::Place { file: "compose.yaml".into(), line: 1, column: 1 };
        let name = "a".parse().unwrap_or_else(|e| unreachable!("{e}"));
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Service {
            environment: environment.iter().map(own).collect(),
            command: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            ..Service::new(name, place)
        }
    }

    #[test]
    fn names_urls_and_repeats() {
        let service = service(
            &[
                ("DB_PASSWORD", "hunter22"),
                ("DB_URL", "postgres://app:hunter22@db/shop"),
                ("CACHE", "redis://:pw@cache:6379/0"),
                ("DEBUG", "1"),
                ("EMPTY_TOKEN", ""),
            ],
            &["serve", "--password=hunter22", "http://u:pw@h"],
        );
        let shown = masked(&service);
        assert_eq!(shown.environment["DB_PASSWORD"], "***");
        assert_eq!(shown.environment["DB_URL"], "postgres://app:***@db/shop");
        assert_eq!(shown.environment["CACHE"], "redis://:***@cache:6379/0");
        assert_eq!(shown.environment["DEBUG"], "1");
        assert_eq!(shown.environment["EMPTY_TOKEN"], "");
        let command = shown.command.unwrap_or_default();
        assert_eq!(command, ["serve", "--password=***", "http://u:***@h"]);
    }

    proptest! {
        #[test]
        fn a_secret_is_nowhere(secret in "[a-z0-9]{6,20}", before in "[ =/:@.-]{0,4}") {
            let (url, flag) = (format!("x://u:{secret}@h"), format!("{before}{secret}"));
            let service = service(&[("A_TOKEN", &secret), ("U", &url), ("F", &flag)], &[&flag]);
            let shown = format!("{:?}", masked(&service));
            prop_assert!(!shown.contains(&secret), "{}", shown);
        }

        #[test]
        fn any_text_is_masked_without_a_crash(text in any::<String>()) {
            let _ = masked(&service(&[("A", &text), ("URL", &format!("x://{text}@h"))], &[&text]));
        }
    }
}
