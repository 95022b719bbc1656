//! Definitions for tests, and a source of chance.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{InstanceId, Ipv4Cidr, Place, ServiceName};
use control::Command;
use spec::model::{Condition, Dependency, Restart, UpdateConfig};

pub(crate) fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

pub(crate) fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

pub(crate) fn pool() -> Ipv4Cidr {
    "127.64.0.0/24".parse().unwrap()
}

pub(crate) fn place() -> Place {
    Place { file: "compose.yaml".into(), line: 1, column: 1 }
}

/// A service of `replicas` instances that is updated one by one without a watch period.
pub(crate) fn service(named: &str, replicas: u32) -> spec::Service {
    spec::Service {
        command: Some(vec!["serve".to_owned()]),
        restart: Restart::Always,
        replicas,
        update: UpdateConfig { monitor: Duration::ZERO, ..UpdateConfig::default() },
        ..spec::Service::new(name(named), place())
    }
}

pub(crate) fn depends(service: &mut spec::Service, on: &str, condition: Condition) {
    service.depends_on.push(Dependency {
        service: name(on),
        condition,
        required: true,
        restart: false,
        place: place(),
    });
}

/// The same service with another command: a new release.
pub(crate) fn version(mut service: spec::Service, version: &str) -> spec::Service {
    service.command = Some(vec!["serve".to_owned(), version.to_owned()]);
    service
}

pub(crate) fn app(services: impl IntoIterator<Item = spec::Service>) -> spec::App {
    spec::App {
        name: "demo".to_owned(),
        project_dir: "/demo".into(),
        files: vec!["/demo/compose.yaml".into()],
        services: services.into_iter().map(|s| (s.name.clone(), s)).collect(),
        volumes: BTreeMap::new(),
        networks: BTreeMap::new(),
        secrets: BTreeMap::new(),
        configs: BTreeMap::new(),
    }
}

pub(crate) fn up(services: impl IntoIterator<Item = spec::Service>) -> Command {
    Command::Up {
        app: Box::new(app(services)),
        services: Vec::new(),
        recreate: false,
        prepared: BTreeMap::new(),
    }
}

/// Chance from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap();
        &of[index]
    }
}
