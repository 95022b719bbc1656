//! What stands beside the services, and what they take of it.

use super::{Yaml, quoted, shown};
use crate::model::{App, FileDef, FileSource, Grant};

pub(super) fn emit(out: &mut Yaml, app: &App) {
    if !app.networks.is_empty() {
        out.open("networks", |out| {
            for (key, network) in &app.networks {
                out.open(&quoted(key), |out| {
                    out.pair("name", &network.name);
                    out.flag("external", network.external);
                    out.flag("internal", network.internal);
                    out.map("labels", &network.labels);
                });
            }
        });
    }
    if !app.volumes.is_empty() {
        out.open("volumes", |out| {
            for (key, volume) in &app.volumes {
                out.open(&quoted(key), |out| {
                    out.pair("name", &volume.name);
                    out.flag("external", volume.external);
                    out.map("labels", &volume.labels);
                });
            }
        });
    }
    for (key, files) in [("secrets", &app.secrets), ("configs", &app.configs)] {
        if !files.is_empty() {
            out.open(key, |out| {
                for (key, file) in files {
                    out.open(&quoted(key), |out| emit_file(out, file));
                }
            });
        }
    }
}

fn emit_file(out: &mut Yaml, file: &FileDef) {
    out.pair("name", &file.name);
    match &file.source {
        FileSource::File(path) => out.pair("file", &shown(path)),
        FileSource::Variable { name, .. } | FileSource::Unset { name } => {
            out.pair("environment", name)
        }
        FileSource::Content(text) => out.pair("content", text),
        FileSource::External => out.line("external: true"),
    }
}

pub(super) fn emit_grant(out: &mut Yaml, grant: &Grant) {
    out.pair("source", &grant.source);
    out.pair("target", &shown(&grant.target));
    out.option("uid", grant.uid.as_ref());
    out.option("gid", grant.gid.as_ref());
    if let Some(mode) = grant.mode {
        out.line(&format!("mode: \"{mode:o}\""));
    }
}
