//! When is it done? Whether services reached what was asked for. Pure.

use base::Problem;
use console::wire::{Health, LogLine, Overview, ServiceView};

use super::show::{health_word, service_state};

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Healthy, or run to its end.
    Up,
    /// Stopped.
    Stopped,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// On its way.
    Pending,
    /// Everything is as asked for.
    Reached,
    /// Something failed, and waiting longer would not change that.
    Failed,
}

/// Restarts after which a service that crashes is not waited for any longer.
const RESTARTS_MAX: u32 = 3;

/// Where these services stand. `names` are all that matter; `revision` is that of the command.
pub(crate) fn verdict(overview: &Overview, names: &[String], revision: u64, goal: Goal) -> Verdict {
    if overview.status.revision < revision {
        return Verdict::Pending;
    }
    let find = |name: &String| overview.services.iter().find(|s| s.name.as_str() == name);
    let found: Vec<Option<&ServiceView>> = names.iter().map(find).collect();
    if found.iter().all(|service| service.is_some_and(|s| reached(s, goal))) {
        return Verdict::Reached;
    }
    let found: Vec<&ServiceView> = found.into_iter().flatten().collect();
    // What serves is the release before: what was asked for did not come to be.
    let went_back = |s: &&ServiceView| match s.next_release {
        None => s.failed_release.is_some(),
        // An update that goes on is called that; one that stands still after a failure is not.
        Some(_) => matches!(s.health, Health::Degraded | Health::Failed) && !arrives(s),
    };
    if goal == Goal::Up && found.iter().any(went_back) {
        return Verdict::Failed;
    }
    let moves = |service: &&ServiceView| match service.health {
        Health::Starting | Health::Updating => true,
        Health::Failed => goal == Goal::Stopped || arrives(service) || !hopeless(service),
        _ => false,
    };
    // What waits for a failed service waits for ever; what only waits does not. Nor does an instance
    // come that no node may run.
    let never = |s: &&ServiceView| s.health == Health::Failed || s.unplaced > 0;
    if found.iter().any(never) && !found.iter().any(moves) {
        return Verdict::Failed;
    }
    Verdict::Pending
}

/// Whether this service is as asked for.
pub(crate) fn reached(service: &ServiceView, goal: Goal) -> bool {
    match (goal, service.health) {
        (Goal::Up, _) if service.failed_release.is_some() => false,
        (Goal::Up, Health::Healthy | Health::Completed) => true,
        (Goal::Up, Health::Stopped) => service.desired == 0,
        (Goal::Stopped, Health::Stopped | Health::Completed) => {
            service.instances.iter().all(|i| matches!(i.state.as_str(), "stopped" | "failed"))
        }
        _ => false,
    }
}

/// However the release before it fares, the one that was asked for is on its way.
fn arrives(service: &ServiceView) -> bool {
    let trying = |state: &str| matches!(state, "pending" | "starting");
    let next = service.next_release;
    service.instances.iter().any(|i| Some(i.release) == next && trying(&i.state))
}

/// A failed service that nothing is about to start again, or that was often enough.
fn hopeless(service: &ServiceView) -> bool {
    let trying = |state: &str| matches!(state, "pending" | "starting");
    service.restarts >= RESTARTS_MAX || !service.instances.iter().any(|i| trying(&i.state))
}

/// What to say of a service that is not as asked for.
pub(crate) fn problem(service: &ServiceView, goal: Goal, lines: &[LogLine]) -> Problem {
    let (code, wanted) = match goal {
        Goal::Up => ("not-healthy", "healthy"),
        Goal::Stopped => ("not-stopped", "stopped"),
    };
    let message = format!("`{}` is not {wanted}: {}", service.name, service_state(service));
    let mut cause = match service.why.as_str() {
        "" => format!("it is {}", health_word(service.health)),
        why => why.to_owned(),
    };
    for line in lines {
        let mark = if line.stream == "stderr" { '!' } else { '|' };
        cause.push_str(&format!("\n{} {mark} {}", line.instance, line.text));
    }
    Problem::new(code, message)
        .with_cause(cause)
        .with_next(format!("ms logs {}   |   ms explain {code}", service.name))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{overview, service};
    use super::*;

    fn stands(healths: &[(Health, u32, &str)], goal: Goal) -> Verdict {
        let mut overview = overview();
        overview.services.clear();
        for (at, (health, restarts, instance)) in healths.iter().enumerate() {
            let mut service = service(&format!("s{at}"));
            (service.health, service.restarts) = (*health, *restarts);
            service.instances[0].state = (*instance).to_owned();
            overview.services.push(service);
        }
        let names: Vec<String> = overview.services.iter().map(|s| s.name.to_string()).collect();
        verdict(&overview, &names, overview.status.revision, goal)
    }

    #[test]
    fn up_is_reached_when_all_are_healthy_or_completed() {
        let ok = [(Health::Healthy, 0, "healthy"), (Health::Completed, 0, "stopped")];
        assert_eq!(stands(&ok, Goal::Up), Verdict::Reached);
        for late in [Health::Waiting, Health::Starting, Health::Updating, Health::Degraded] {
            assert_eq!(stands(&[ok[0], (late, 0, "starting")], Goal::Up), Verdict::Pending);
        }
    }

    #[test]
    fn a_failure_is_final_when_nothing_moves_any_more() {
        let failed = (Health::Failed, 0, "failed");
        let waiting = (Health::Waiting, 0, "pending");
        for (healths, expected) in [
            (vec![failed], Verdict::Failed),
            (vec![failed, waiting], Verdict::Failed),
            (vec![failed, (Health::Starting, 0, "starting")], Verdict::Pending),
            // Between two attempts: a service may need its database to be there first.
            (vec![(Health::Failed, 1, "pending")], Verdict::Pending),
            (vec![(Health::Failed, 3, "pending")], Verdict::Failed),
            (vec![waiting], Verdict::Pending),
        ] {
            assert_eq!(stands(&healths, Goal::Up), expected, "{healths:?}");
        }
    }

    #[test]
    fn a_release_that_did_not_make_it_is_a_failure_even_if_the_old_one_serves() {
        let mut overview = overview();
        let names = ["arena".to_owned()];
        for service in &mut overview.services {
            service.failed_release = Some(9);
            service.health = Health::Degraded;
        }
        let revision = overview.status.revision;
        assert_eq!(verdict(&overview, &names, revision, Goal::Up), Verdict::Failed);
        for service in &mut overview.services {
            service.next_release = Some(10);
            service.health = Health::Updating;
        }
        assert_eq!(verdict(&overview, &names, revision, Goal::Up), Verdict::Pending);
        for service in &mut overview.services {
            // Paused.
            service.health = Health::Degraded;
        }
        assert_eq!(verdict(&overview, &names, revision, Goal::Up), Verdict::Failed);
        // The cure of a release that cannot run any more.
        for service in &mut overview.services {
            (service.failed_release, service.health, service.restarts) = (None, Health::Failed, 9);
            let mut cure = service.instances[0].clone();
            (cure.release, cure.state) = (10, "starting".to_owned());
            service.instances.push(cure);
        }
        assert_eq!(verdict(&overview, &names, revision, Goal::Up), Verdict::Pending);
    }

    #[test]
    fn nothing_counts_before_the_command_is_in_force() {
        let overview = overview();
        let names = ["arena".to_owned()];
        let revision = overview.status.revision;
        assert_eq!(verdict(&overview, &names, revision, Goal::Up), Verdict::Reached);
        assert_eq!(verdict(&overview, &names, revision + 1, Goal::Up), Verdict::Pending);
        let missing = ["gone".to_owned()];
        assert_eq!(verdict(&overview, &missing, revision, Goal::Up), Verdict::Pending);
    }

    #[test]
    fn stopped_means_stopped() {
        let stopped = (Health::Stopped, 0, "stopped");
        assert_eq!(stands(&[stopped], Goal::Stopped), Verdict::Reached);
        assert_eq!(stands(&[(Health::Stopped, 0, "draining")], Goal::Stopped), Verdict::Pending);
        assert_eq!(stands(&[(Health::Healthy, 0, "draining")], Goal::Stopped), Verdict::Pending);
        assert_eq!(stands(&[(Health::Failed, 9, "failed")], Goal::Stopped), Verdict::Pending);
        // Stopped on purpose, and wanted.
        assert_eq!(stands(&[stopped], Goal::Up), Verdict::Pending);
    }
}
