//! Records as entries of the store: their paths, and their JSON.
//!
//! ```text
//! /control/owner                          who writes
//! /control/boot                           the run of the machine that moments are of
//! /apps/APP                               AppRecord
//! /apps/APP/services/SERVICE              ServiceRecord
//! /apps/APP/releases/SERVICE/NUMBER       Release; the number has 20 digits
//! /apps/APP/instances/INSTANCE            InstanceRecord
//! /events/SEQ                             a batch of events from this number on; 20 digits
//! ```

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::action::{Action, Record, RecordKey};
use crate::record::{AppRecord, InstanceRecord, Release, ServiceRecord};
use crate::state::State;
use crate::store::{Entry, Op, StoreError};

/// The mark of whoever writes.
pub(crate) const OWNER: &str = "/control/owner";

/// The run of the machine that steady moments in the records are of.
pub(crate) const BOOT: &str = "/control/boot";

/// Where batches of events are.
pub(crate) const EVENTS: &str = "/events/";

const APPS: &str = "/apps/";

/// The operation that carries out a `Put` or `Delete` of a record of `app`; none for other actions.
pub(crate) fn op(app: &str, action: &Action) -> Result<Option<Op>, StoreError> {
    let (key, value) = match action {
        Action::Put(Record::App(app)) => (path(&app.name, &RecordKey::App), json(&**app)?),
        Action::Put(Record::Service(service)) => {
            (path(app, &RecordKey::Service(service.name.clone())), json(&**service)?)
        }
        Action::Put(Record::Release(release)) => {
            let key = RecordKey::Release(release.service.clone(), release.number);
            (path(app, &key), json(&**release)?)
        }
        Action::Put(Record::Instance(instance)) => {
            (path(app, &RecordKey::Instance(instance.id.clone())), json(&**instance)?)
        }
        Action::Delete(key) => return Ok(Some(Op::Delete { key: path(app, key) })),
        _ => return Ok(None),
    };
    Ok(Some(Op::Put { key, value, lease: None }))
}

fn path(app: &str, key: &RecordKey) -> String {
    match key {
        RecordKey::App => format!("{APPS}{app}"),
        RecordKey::Service(name) => format!("{APPS}{app}/services/{name}"),
        RecordKey::Release(name, number) => format!("{APPS}{app}/releases/{name}/{number:020}"),
        RecordKey::Instance(id) => format!("{APPS}{app}/instances/{id}"),
    }
}

/// The state that these entries hold, on top of an empty one.
pub(crate) fn load(entries: &[Entry], mut state: State) -> Result<State, StoreError> {
    for entry in entries {
        let Some(rest) = entry.key.strip_prefix(APPS) else { continue };
        let mut parts = rest.splitn(3, '/').skip(1);
        match parts.next() {
            None => state.app = Some(Arc::new(read::<AppRecord>(entry)?)),
            Some("services") => {
                let record: ServiceRecord = read(entry)?;
                state.services.insert(record.name.clone(), Arc::new(record));
            }
            Some("releases") => {
                let record: Release = read(entry)?;
                let key = (record.service.clone(), record.number);
                state.releases.insert(key, Arc::new(record));
            }
            Some("instances") => {
                let record: InstanceRecord = read(entry)?;
                state.instances.insert(record.id.clone(), Arc::new(record));
            }
            // Written by a newer version; not ours to judge.
            Some(_) => {}
        }
    }
    Ok(state)
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Corrupt {
        what: "a record about to be written".to_owned(),
        cause: error.to_string(),
    })
}

pub(crate) fn read<T: DeserializeOwned>(entry: &Entry) -> Result<T, StoreError> {
    serde_json::from_slice(&entry.value).map_err(|error| StoreError::Corrupt {
        what: format!("`{}`", entry.key),
        cause: error.to_string(),
    })
}
