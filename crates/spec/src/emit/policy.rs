//! How many of a service run, where, with what, and how they are replaced.

use super::{Yaml, shown};
use crate::duration::show;
use crate::model::{
    FailureAction, Hook, PullPolicy, Restart, Service, Swap, UpdateConfig, UpdateOrder,
};

pub(super) fn emit_hooks(out: &mut Yaml, service: &Service) {
    let hooks = &service.hooks;
    out.items("pre_start", &hooks.pre_start, hook);
    out.items("post_start", &hooks.post_start, hook);
    out.items("pre_stop", &hooks.pre_stop, hook);
}

fn hook(out: &mut Yaml, hook: &Hook) {
    out.list("command", &hook.command);
    out.option("user", hook.user.as_ref());
    out.flag("privileged", hook.privileged);
    if let Some(dir) = &hook.working_dir {
        out.pair("working_dir", &shown(dir));
    }
    out.map("environment", &hook.environment);
    out.option("image", hook.image.as_ref());
    out.flag("per_replica", hook.per_replica);
}

pub(super) fn emit_logging(out: &mut Yaml, service: &Service) {
    let logging = &service.logging;
    if *logging != Default::default() {
        out.open("logging", |out| {
            out.pair("driver", if logging.none { "none" } else { "json-file" });
            if logging.file_bytes_max.is_some() || logging.files_max.is_some() {
                out.open("options", |out| {
                    if let Some(size) = logging.file_bytes_max {
                        out.pair("max-size", &size.to_string());
                    }
                    if let Some(files) = logging.files_max {
                        out.pair("max-file", &files.to_string());
                    }
                });
            }
        });
    }
    match service.pull_policy {
        None => {}
        Some(PullPolicy::Always) => out.pair("pull_policy", "always"),
        Some(PullPolicy::Never) => out.pair("pull_policy", "never"),
        Some(PullPolicy::Missing) => out.pair("pull_policy", "missing"),
        Some(PullPolicy::Build) => out.pair("pull_policy", "build"),
        Some(PullPolicy::OlderThan { age_secs }) => {
            out.pair("pull_policy", &format!("every_{age_secs}s"));
        }
    }
}

/// What only keys of the service say; the rest is below `deploy`.
pub(super) fn emit_limits(out: &mut Yaml, service: &Service) {
    let limits = &service.limits;
    match limits.memory_and_swap {
        None => {}
        Some(Swap::Unlimited) => out.line("memswap_limit: -1"),
        Some(Swap::Bytes(bytes)) => out.line(&format!("memswap_limit: {bytes}")),
    }
    if let Some(shares) = limits.cpu_shares {
        out.line(&format!("cpu_shares: {shares}"));
    }
    out.option("cpuset", limits.cpuset.as_ref());
    out.option("platform", service.placement.platform.as_ref());
}

pub(super) fn emit_deploy(out: &mut Yaml, service: &Service) {
    match service.global {
        true => out.pair("mode", "global"),
        false => out.line(&format!("replicas: {}", service.replicas)),
    }
    out.open("update_config", |out| update(out, &service.update));
    if let Some(rollback) = &service.rollback {
        out.open("rollback_config", |out| update(out, rollback));
    }
    restart(out, service);
    placement(out, service);
    resources(out, service);
}

fn update(out: &mut Yaml, update: &UpdateConfig) {
    out.line(&format!("parallelism: {}", update.parallelism));
    out.pair("delay", &show(update.delay));
    out.pair(
        "failure_action",
        match update.failure_action {
            FailureAction::Pause => "pause",
            FailureAction::Continue => "continue",
            FailureAction::Rollback => "rollback",
        },
    );
    out.pair("monitor", &show(update.monitor));
    out.line(&format!("max_failure_ratio: {}", update.max_failure_ratio));
    out.pair(
        "order",
        match update.order {
            UpdateOrder::StartFirst => "start-first",
            UpdateOrder::StopFirst => "stop-first",
        },
    );
}

/// Only with a pace; without, `restart` says it.
fn restart(out: &mut Yaml, service: &Service) {
    let pace = &service.restart_pace;
    if *pace == Default::default() {
        return;
    }
    out.open("restart_policy", |out| {
        let (condition, attempts) = match service.restart {
            Restart::No => ("none", None),
            Restart::Always | Restart::UnlessStopped => ("any", pace.attempts),
            Restart::OnFailure { max_retries } => ("on-failure", max_retries),
        };
        out.pair("condition", condition);
        if let Some(attempts) = attempts {
            out.line(&format!("max_attempts: {attempts}"));
        }
        if let Some(delay) = pace.delay {
            out.pair("delay", &show(delay));
        }
        if let Some(window) = pace.window {
            out.pair("window", &show(window));
        }
    });
}

fn placement(out: &mut Yaml, service: &Service) {
    let placement = &service.placement;
    let most = placement.replicas_per_node_max;
    if placement.constraints.is_empty() && placement.spread.is_empty() && most.is_none() {
        return;
    }
    out.open("placement", |out| {
        let each = placement.constraints.iter();
        let sign = |equal: bool| if equal { "==" } else { "!=" };
        let texts = each.map(|c| format!("{} {} {}", c.key, sign(c.equal), c.value));
        out.some("constraints", &texts.collect::<Vec<_>>());
        out.items("preferences", &placement.spread, |out, spread| out.pair("spread", spread));
        if let Some(most) = most {
            out.line(&format!("max_replicas_per_node: {most}"));
        }
    });
}

fn resources(out: &mut Yaml, service: &Service) {
    let limits = &service.limits;
    let limited = limits.memory_bytes.is_some() || limits.cpus.is_some() || limits.pids.is_some();
    let reserved = limits.memory_reserved_bytes.is_some() || limits.cpus_reserved.is_some();
    if !limited && !reserved {
        return;
    }
    let amounts = |out: &mut Yaml, memory: Option<u64>, cpus: Option<f64>| {
        if let Some(memory) = memory {
            out.pair("memory", &memory.to_string());
        }
        if let Some(cpus) = cpus {
            out.pair("cpus", &cpus.to_string());
        }
    };
    out.open("resources", |out| {
        if limited {
            out.open("limits", |out| {
                amounts(out, limits.memory_bytes, limits.cpus);
                if let Some(pids) = limits.pids {
                    out.line(&format!("pids: {pids}"));
                }
            });
        }
        if reserved {
            out.open("reservations", |out| {
                amounts(out, limits.memory_reserved_bytes, limits.cpus_reserved);
            });
        }
    });
}
