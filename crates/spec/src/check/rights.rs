//! Rights that are more than a service should need.

use std::collections::BTreeMap;

use base::ServiceName;

use super::names;
use crate::Finding;
use crate::dockerfile::ImageRecipe;
use crate::model::{App, MountKind, Service};
use crate::report::Report;

fn docker_socket(service: &Service, report: &mut Report) {
    for mount in &service.volumes {
        if let MountKind::Bind { source, .. } = &mount.kind
            && source.ends_with("docker.sock")
        {
            let what = format!("service `{}` mounts Docker's socket", service.name);
            let finding = Finding::warning("docker-socket", what).at(&mount.place);
            let cause = "whoever can write to it is root on this host, and Mainspring does not \
                         answer there";
            report.push(finding.cause(cause).next("remove the mount"));
        }
    }
}

pub(super) fn check(service: &Service, report: &mut Report) {
    docker_socket(service, report);
    let mut say = |what: String| {
        let finding = Finding::warning("rights-of-root", what).at(&service.place);
        let cause = "whoever takes the service over has the host";
        report
            .push(finding.cause(cause).next("give the few capabilities that it needs: `cap_add`"));
    };
    if service.rights.privileged {
        say(format!("service `{}` is privileged", service.name));
    }
    for capability in ["ALL", "SYS_ADMIN"] {
        if service.rights.cap_add.contains(capability) {
            say(format!("service `{}` has the capability {capability}", service.name));
        }
    }
}

/// One note for all services that run as root inside what their Dockerfile makes.
pub(super) fn roots(app: &App, recipes: &BTreeMap<ServiceName, ImageRecipe>, report: &mut Report) {
    let is_root = |user: &str| matches!(user.split(':').next(), Some("" | "0" | "root"));
    let runs_as_root = |service: &&Service| match (&service.user, recipes.get(&service.name)) {
        (Some(user), _) => is_root(user),
        (None, Some(recipe)) => match &recipe.user {
            Some(user) => is_root(user),
            None => !crate::images::steps_down(&recipe.base),
        },
        // Whom an image runs as is not known here, and a program of the host runs as the engine.
        (None, None) => false,
    };
    let roots: Vec<&Service> = app.services.values().filter(runs_as_root).collect();
    let Some(first) = roots.first() else { return };
    let finding = Finding::note("runs-as-root", format!("run as root: {}", names(&roots)));
    let cause = "a fault in the service is a fault with more rights than it needs";
    let next = "add `USER` to the Dockerfile, or `user:` to the service";
    report.push(finding.at(&first.place).cause(cause).next(next));
}
