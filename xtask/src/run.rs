//! Running other programs: say what runs, run it in the workspace's root, name it when it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Runs a program in `dir` with its output shown.
pub(crate) fn run_in(dir: &Path, program: &str, args: &[&str]) -> Result<()> {
    eprintln!("\n$ {program} {}", args.join(" "));
    let status = Command::new(program)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run `{program}`: is it installed?"))?;
    if !status.success() {
        bail!("`{program} {}` ended with {status}", args.join(" "));
    }
    Ok(())
}

/// Runs cargo in the root.
pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run_in(&root(), &cargo, args)
}

/// What a program prints on standard output.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program)
        .args(args)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{program}`: is it installed?"))?;
    if !out.status.success() {
        bail!("`{program} {}` ended with {}", args.join(" "), out.status);
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// Whether a program is on the PATH.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Whether a program is where the system keeps them, which need not be on the PATH.
pub(crate) fn has_system(program: &str) -> bool {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
    places.iter().any(|place| Path::new(place).join(program).is_file())
}

/// Installs Debian packages unless `program` is there already.
pub(crate) fn need(program: &str, packages: &[&str]) -> Result<()> {
    if has(program) {
        return Ok(());
    }
    let wanted = packages.join(" ");
    if !has("apt-get") {
        bail!(
            "`{program}` is missing and there is no apt-get: install {wanted} and run this again"
        );
    }
    install(packages).with_context(|| format!("`{program}` is missing: install {wanted} as root"))
}

/// Installs Debian packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let sudo: &[&str] = if is_root() { &[] } else { &["sudo", "-n"] };
    let apt = |words: &[&str]| {
        let front = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
        let all: Vec<&str> = sudo.iter().chain(&front).chain(words).copied().collect();
        run_in(&root(), all[0], &all[1..])
    };
    apt(&["update", "-q"])?;
    let words = ["install", "-y", "-q", "--no-install-recommends"];
    apt(&[&words[..], packages].concat())
}

/// Installs packages of servers as root, and starts none of them: a server that a test did not
/// start would have its port.
pub(crate) fn install_quietly(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    if !has("apt-get") {
        bail!("there is no apt-get: install {wanted} and run this again");
    }
    // What Debian asks before it starts a service; 101 forbids it.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists();
    if ours {
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        let bits = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(policy, bits)?;
    }
    let installed = install(packages).with_context(|| format!("the tests need {wanted}"));
    if ours {
        std::fs::remove_file(policy)?;
    }
    installed
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    output("id", &["-u"]).is_ok_and(|uid| uid.trim() == "0")
}
