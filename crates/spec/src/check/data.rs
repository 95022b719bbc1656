//! Where data is kept: not inside an instance, and not written by two services.

use std::collections::BTreeMap;
use std::path::Path;

use base::ServiceName;

use crate::Finding;
use crate::model::{App, MountKind, Service};
use crate::report::Report;

/// Images of databases, by the last part of their names, and the folder that holds the data.
const DATABASES: &[(&str, &str)] = &[
    ("cassandra", "/var/lib/cassandra"),
    ("clickhouse-server", "/var/lib/clickhouse"),
    ("cockroach", "/cockroach/cockroach-data"),
    ("couchdb", "/opt/couchdb/data"),
    ("elasticsearch", "/usr/share/elasticsearch/data"),
    ("influxdb", "/var/lib/influxdb2"),
    ("mariadb", "/var/lib/mysql"),
    ("mongo", "/data/db"),
    ("mysql", "/var/lib/mysql"),
    ("neo4j", "/data"),
    ("opensearch", "/usr/share/opensearch/data"),
    ("percona", "/var/lib/mysql"),
    ("pgvector", "/var/lib/postgresql"),
    ("postgis", "/var/lib/postgresql"),
    ("postgres", "/var/lib/postgresql"),
    ("postgresql", "/bitnami/postgresql"),
    ("rabbitmq", "/var/lib/rabbitmq"),
    ("rethinkdb", "/data"),
    ("timescaledb", "/var/lib/postgresql"),
];

/// A database whose files go with its instance.
pub(super) fn inside(service: &Service, report: &mut Report) {
    let Some(image) = service.image.as_ref().filter(|_| service.build.is_none()) else { return };
    if service.extension.native {
        return;
    }
    let name = crate::stand_in::name(image).rsplit('/').next().unwrap_or_default();
    let Some((_, dir)) = DATABASES.iter().find(|(database, _)| *database == name) else { return };
    let holds = |target: &Path| target.starts_with(dir) || Path::new(dir).starts_with(target);
    if service.volumes.iter().any(|mount| holds(&mount.target)) {
        return;
    }
    let what = format!("service `{}` keeps its data inside the instance", service.name);
    let finding = Finding::warning("data-inside", what).at(&service.place);
    let cause =
        format!("nothing is mounted at {dir}, where `{name}` writes; a new release starts empty");
    let next = format!("mount a volume there: `volumes: [\"{}-data:{dir}\"]`", service.name);
    report.push(finding.cause(cause).next(next));
}

/// A volume that two services write to.
pub(super) fn shared(app: &App, report: &mut Report) {
    let mut writers: BTreeMap<&str, &ServiceName> = BTreeMap::new();
    for service in app.services.values() {
        for mount in service.volumes.iter().filter(|m| !m.read_only) {
            let MountKind::Named { name, .. } = &mount.kind else { continue };
            let first = *writers.entry(name).or_insert(&service.name);
            if *first != service.name {
                let what = format!(
                    "services `{first}` and `{}` both write to the volume `{name}`",
                    service.name
                );
                let finding = Finding::warning("volume-shared", what).at(&mount.place);
                let cause = "two programs that write the same files rarely know of each other";
                report
                    .push(finding.cause(cause).next("give each its own, or mount one with `:ro`"));
            }
        }
    }
}
