//! An app that is asked for: prepared beside the loop, then handed to control.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use base::{Problem, ServiceName};
use console::wire::Accepted;
use spec::model::PortKind;

use super::{Carrier, Done, Reply, Undertaken, names};
use crate::engine::ending::WhenDown;
use crate::engine::prepare::{self, Outcome, Prepared, Workshop};
use crate::engine::published::{self, HostPorts, Published};
use crate::engine::{convert, given};

/// What follows when everything is prepared.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Up {
        recreate: bool,
    },
    /// Nothing: images were to be built.
    Rest {
        no_cache: bool,
    },
}

/// An app with everything prepared.
pub(super) struct UpReady {
    app: spec::App,
    services: Vec<ServiceName>,
    recreate: bool,
    prepared: BTreeMap<ServiceName, Prepared>,
    warnings: Vec<(ServiceName, Problem)>,
}

impl Carrier {
    /// Prepares an app beside the loop; `up` follows when that is done.
    pub(super) fn prepare(
        &mut self,
        app: serde_json::Value,
        services: Vec<String>,
        then: Then,
        reply: Reply,
    ) {
        let app: spec::App = match serde_json::from_value(app) {
            Ok(app) => app,
            Err(e) => {
                let problem = Problem::new("bad-model", "the app cannot be read")
                    .with_cause(e.to_string())
                    .with_next("use an `ms` of the engine's own version");
                let _ = reply.send(Err(problem));
                return;
            }
        };
        let services = match self.admit(&app).and_then(|()| names(&services)) {
            Ok(services) => services,
            Err(problem) => {
                let _ = reply.send(Err(problem));
                return;
            }
        };
        let ours: Vec<_> = {
            let status = self.edge_status.borrow();
            let tcp = status.listeners.keys().map(|addr| (*addr, PortKind::Tcp));
            let udp = status.udp_listeners.keys().map(|addr| (*addr, PortKind::Udp));
            tcp.chain(udp).collect()
        };
        self.preparing += 1;
        let shared = self.shared.clone();
        // What ends the wish is a `down` after it, not one that it overtakes.
        let overtakes = shared.ending.load(Ordering::Relaxed);
        // Copying and hashing files may take a while.
        let work = self.works.spawn_blocking(move || {
            let ending = || !overtakes && shared.ending.load(Ordering::Relaxed);
            let unwanted = || reply.is_closed() || ending();
            let workshop = Workshop {
                layers_dir: shared.state_dir.join("layers"),
                builder: &shared.builder,
                clock: &*shared.clock,
                watch: &|service| shared.builds.watch(service, &unwanted),
                no_cache: matches!(then, Then::Rest { no_cache: true }),
            };
            let Then::Up { recreate } = then else {
                let answer = build_all(&app, &services, &workshop, shared.revision());
                return Done::Built { answer, reply };
            };
            let wanted = app.with_dependencies(&services);
            match prepare_all(&app, &wanted, &workshop, &shared.host_ports, &ours) {
                Ok(Outcome { prepared, warnings, .. }) => {
                    let up = UpReady { app, services, recreate, prepared, warnings };
                    Done::Up { up: Box::new(up), reply }
                }
                Err(problem) => Done::UpFailed { problem, reply },
            }
        });
        self.undertaken.insert(work.id(), Undertaken::Up);
    }

    /// One engine runs one app.
    fn admit(&self, app: &spec::App) -> Result<(), Problem> {
        let state = self.control.state();
        match &state.app {
            Some(running) if running.name != app.name => Err(Problem::new(
                "other-app",
                format!("this engine runs the app `{}`", running.name),
            )
            .with_cause(format!("its state folder is {}", self.shared.state_dir.display()))
            .with_next(format!("give `{}` a folder of its own with --state", app.name))),
            _ => Ok(()),
        }
    }

    pub(super) fn up(&mut self, up: UpReady) -> Result<Result<Accepted, Problem>, Problem> {
        let as_json = |(name, prepared): (ServiceName, Prepared)| {
            (name, serde_json::to_value(prepared).unwrap_or_default())
        };
        let command = control::Command::Up {
            app: Box::new(up.app),
            services: up.services,
            recreate: up.recreate,
            prepared: up.prepared.into_iter().map(as_json).collect(),
        };
        let mut answer = self.command(command)?;
        if let Ok(accepted) = &mut answer {
            self.set_when_down(None);
            WhenDown::forget(&self.shared.state_dir);
            accepted.warnings.extend(self.shared.room.problems());
            if !accepted.changed.is_empty() {
                let changed = |(name, _): &(_, _)| accepted.changed.contains(name);
                let told: Vec<_> = up.warnings.into_iter().filter(changed).collect();
                accepted.warnings.extend(told.into_iter().map(|(_, problem)| problem));
                accepted.warnings.extend(self.less_isolated());
                accepted.warnings.extend(self.not_shared());
            }
        }
        Ok(answer)
    }

    /// One line about what instances do without on this machine.
    fn less_isolated(&self) -> Option<Problem> {
        let missing = &self.agent.isolation().missing;
        if missing.is_empty() {
            return None;
        }
        let brief = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
        let lacks: Vec<String> = missing.iter().map(brief).collect();
        let what = format!("instances do without {}", lacks.join(", "));
        let isolation = self.agent.isolation();
        let reasons = "engine.log in the state folder has the reasons";
        let next = match (isolation.mode, isolation.own_files) {
            (agent::Mode::Full, _) => reasons.to_owned(),
            (_, true) => format!("run it as the machine's root for all of it; {reasons}"),
            (_, false) => format!("{}; {reasons}", prepare::WAY_OUT),
        };
        Some(Problem::new("less-isolated", what).with_next(next))
    }

    /// One line about services that share the network of another where all share the host's.
    fn not_shared(&self) -> Option<Problem> {
        if self.own_addresses {
            return None;
        }
        let state = self.control.state();
        let mut sharing = state
            .services
            .values()
            .filter_map(|s| Some((&s.definition, s.definition.shares_with()?)));
        let (service, owner) = sharing.next()?;
        let name = &service.name;
        let what = format!("`{name}` does not find `{owner}` at localhost");
        let problem = Problem::new("network-shared", what).with_place(service.place.clone());
        let cause = "instances have no addresses of their own to share, and each is told a port";
        Some(problem.with_cause(cause).with_next("run ms as root"))
    }

    /// Discards what somebody no longer wants to keep.
    pub(super) fn prune(
        &mut self,
        unused_for_seconds: Option<u64>,
        keep_bytes: Option<u64>,
        reply: Reply,
    ) {
        if self.preparing > 0 {
            let problem = Problem::new("build-busy", "something is being built now")
                .with_cause("what it uses is not known before it is done")
                .with_next("try again when it is done");
            let _ = reply.send(Err(problem));
            return;
        }
        let none = if keep_bytes.is_some() { std::time::Duration::MAX } else { Default::default() };
        let keep = builder::Keep {
            age: unused_for_seconds.map_or(none, std::time::Duration::from_secs),
            bytes: keep_bytes.unwrap_or(u64::MAX),
        };
        let (used, shared) = (self.layers_in_use(), self.shared.clone());
        // What is used from now on is not older than that.
        let now = shared.clock.now();
        self.works.spawn_blocking(move || {
            let pruned = shared.builder.prune(&used, keep, now).map_err(|e| {
                Problem::new("build-files", "what builds left cannot be removed")
                    .with_cause(e.to_string())
                    .with_next("mend the state folder, then try again")
            });
            let _ = reply.send(pruned.map(|pruned| Accepted {
                revision: shared.revision(),
                pruned: Some(console::wire::Pruned { count: pruned.count, bytes: pruned.bytes }),
                ..Accepted::default()
            }));
            Done::Other
        });
    }

    fn layers_in_use(&self) -> Vec<std::path::PathBuf> {
        let state = self.control.state();
        let each = state.releases.values().map(|release| convert::prepared(release).layers);
        each.flatten().collect()
    }

    /// Discards layers that no release uses, unless one is being laid out now.
    pub(super) fn prune_layers(&mut self) {
        if self.preparing > 0 {
            return;
        }
        let (kept, shared) = (self.layers_in_use(), self.shared.clone());
        // What cannot go now is tried again with the next release.
        self.works.spawn_blocking(move || {
            let now = shared.clock.now();
            let _ = shared.builder.prune(&kept, builder::Keep::default(), now);
            Done::Other
        });
    }
}

/// Builds the images of these services, all when none is named.
fn build_all(
    app: &spec::App,
    services: &[ServiceName],
    workshop: &Workshop<'_>,
    revision: u64,
) -> Result<Accepted, Problem> {
    let wanted = |service: &&spec::Service| {
        service.uses_build() && (services.is_empty() || services.contains(&service.name))
    };
    let wanted = app.services.values().filter(wanted).map(|service| service.name.clone()).collect();
    if !workshop.builder.can_build() {
        return Err(Problem::new("build-not-root", "nothing can be built here")
            .with_cause("the steps of a build need files of their own, which this machine refuses")
            .with_next(prepare::WAY_OUT));
    }
    let Outcome { built, warnings, .. } = prepare::all(app, &wanted, workshop)?;
    let warnings = warnings.into_iter().map(|(_, problem)| problem).collect();
    Ok(Accepted { revision, changed: built, warnings, pruned: None })
}

fn prepare_all(
    app: &spec::App,
    names: &BTreeSet<ServiceName>,
    workshop: &Workshop<'_>,
    host_ports: &HostPorts,
    ours: &[(std::net::SocketAddr, PortKind)],
) -> Result<Outcome, Problem> {
    let prepared = prepare::all(app, names, workshop)?;
    let mut wanted = Vec::new();
    for (name, service) in app.services.iter().filter(|(name, _)| names.contains(*name)) {
        given::check(service)?;
        prepare::check_mounts(service)?;
        for Published { addr, target, kind } in host_ports.of(service) {
            let port = service.ports.iter().find(|p| (p.target, p.protocol) == (target, kind));
            let place = port.map_or(&service.place, |p| &p.place);
            let bound = host_ports.bound_for(addr);
            wanted.push(published::Wanted { service: name, addr, kind, bound, place });
        }
    }
    published::check(&wanted, ours)?;
    Ok(prepared)
}
