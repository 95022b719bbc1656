//! The embedded store: the common contract, a model, and what is its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::ManualClock;
use control::Embedded;
use control::store::{Committed, Store, StoreError, Txn};
use proptest::prelude::*;

use crate::conformance;

fn open(path: &Path) -> (Embedded, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (Embedded::open(path, clock.clone()).unwrap(), clock)
}

fn revision(committed: Committed) -> u64 {
    match committed {
        Committed::Done { revision } => revision,
        conflict => panic!("{conflict:?}"),
    }
}

#[test]
fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = open(&dir.path().join("state"));
    conformance::all(&store, &|by| clock.advance(by));
}

#[test]
fn a_second_engine_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (_store, clock) = open(&path);
    let Err(error) = Embedded::open(&path, clock) else { panic!("opened twice") };
    assert!(matches!(error, StoreError::InUse { .. }));
    assert!(error.to_string().contains("is in use by another engine; stop it"), "{error}");
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let text = "this is a letter to my grandmother\n".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    let Err(error) = Embedded::open(&path, Arc::new(ManualClock::default())) else {
        panic!("opened a letter")
    };
    assert!(matches!(error, StoreError::Disk { .. }), "{error:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn damage_is_told_when_the_file_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (store, clock) = open(&path);
    for number in 0..20 {
        store.commit(&Txn::new().put(format!("/a/{number}"), vec![7; 300])).unwrap();
    }
    drop(store);
    let good = std::fs::read(&path).unwrap();
    let refused = |byte: usize| {
        let mut bytes = good.clone();
        bytes[byte] ^= 0xff;
        std::fs::write(&path, bytes).unwrap();
        match Embedded::open(&path, clock.clone()) {
            Err(StoreError::Damaged { path: said, .. }) => said == path,
            Err(error) => panic!("{error}"),
            Ok(_) => false,
        }
    };
    // Kinds of pages and what they count are at their beginnings: redb panics on some of them.
    let refused = (4096..good.len()).step_by(4096).filter(|byte| refused(*byte)).count();
    assert!(refused > 0, "nothing of {} bytes was missed", good.len());
}

#[test]
fn history_is_bounded_and_its_cut_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (store, _clock) = open(&path);
    let mut behind = store.watch("/", 1).unwrap();
    let mut close = store.watch("/", 1).unwrap();
    let mut seen = 0;
    // Bytes cut the history long before the number of rows does.
    for n in 0..20u8 {
        store.commit(&Txn::new().put(format!("/{n}"), vec![n; 256 << 10])).unwrap();
        seen += close.poll().unwrap().len();
    }
    assert_eq!(seen, 20);
    let Err(StoreError::Compacted { from: 1, compacted }) = behind.poll() else { panic!() };
    assert!((10..20).contains(&compacted), "{compacted}");
    assert!(matches!(store.watch("/", compacted), Err(StoreError::Compacted { .. })));
    let rest = store.watch("/", compacted + 1).unwrap().poll().unwrap();
    assert_eq!(rest.len() as u64, 20 - compacted);
    // The same after a restart.
    drop((store, behind, close));
    let (store, _clock) = open(&path);
    assert_eq!(store.revision(), 20);
    assert!(matches!(store.watch("/", compacted), Err(StoreError::Compacted { .. })));
    assert_eq!(store.watch("/", compacted + 1).unwrap().poll().unwrap(), rest);
}

#[test]
fn leases_live_on_for_their_time_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (store, _clock) = open(&path);
    let lease = store.grant(Duration::from_secs(10)).unwrap();
    store.commit(&Txn::new().put_leased("/node", "", lease)).unwrap();
    drop(store);
    let (store, clock) = open(&path);
    clock.advance(Duration::from_secs(9));
    assert!(store.get("/node").unwrap().is_some());
    assert!(store.grant(Duration::from_secs(1)).unwrap() != lease);
    clock.advance(Duration::from_secs(1));
    assert!(store.get("/node").unwrap().is_none());
}

#[test]
fn an_idle_watch_is_woken_by_a_commit() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (store, _clock) = open(&dir.path().join("state"));
    let mut watch = store.watch("/", 1).unwrap();
    let mut revisions = watch.revisions();
    revisions.mark_unchanged();
    runtime.block_on(async {
        let wait = revisions.changed();
        store.commit(&Txn::new().put("/a", "")).unwrap();
        wait.await.unwrap();
    });
    assert_eq!(watch.poll().unwrap().len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Commit { expect: Option<(u8, bool)>, puts: Vec<(u8, u8)>, deletes: Vec<u8> },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let commit = (
        proptest::option::of((0..6u8, any::<bool>())),
        proptest::collection::vec((0..6u8, any::<u8>()), 0..3),
        proptest::collection::vec(6..9u8, 0..2),
    );
    let commit = commit.prop_map(|(expect, puts, deletes)| Step::Commit { expect, puts, deletes });
    proptest::collection::vec(prop_oneof![9 => commit, 1 => Just(Step::Reopen)], 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Against a map: the same entries, the same conflicts, one revision for each change, and
    /// watches that tell the whole story, across restarts.
    #[test]
    fn behaves_like_a_map(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (mut store, _) = open(&path);
        let mut model: BTreeMap<String, (u8, u64)> = BTreeMap::new();
        let mut newest = 0;
        for step in steps {
            match step {
                Step::Reopen => {
                    drop(store);
                    store = open(&path).0;
                }
                Step::Commit { expect, puts, deletes } => {
                    let mut txn = Txn::new();
                    let mut holds = true;
                    if let Some((key, right)) = expect {
                        let key = format!("/{key}");
                        let is = model.get(&key).map_or(0, |(_, revision)| *revision);
                        txn = txn.expect(key, if right { is } else { is + 1 });
                        holds = right;
                    }
                    let puts: BTreeMap<_, _> = puts.into_iter().collect();
                    let deletes: std::collections::BTreeSet<_> = deletes.into_iter().collect();
                    for (key, value) in &puts {
                        txn = txn.put(format!("/{key}"), vec![*value]);
                    }
                    for key in &deletes {
                        txn = txn.delete(format!("/{}", key - 6));
                    }
                    let twice = deletes.iter().any(|key| puts.contains_key(&(key - 6)));
                    let committed = store.commit(&txn);
                    if twice {
                        prop_assert!(committed.is_err());
                        continue;
                    }
                    let committed = committed.unwrap();
                    if !holds {
                        let conflict = matches!(committed, Committed::Conflict { .. });
                        prop_assert!(conflict);
                        continue;
                    }
                    let gone: Vec<_> = deletes.iter().map(|key| format!("/{}", key - 6)).collect();
                    let changes = !puts.is_empty() || gone.iter().any(|k| model.contains_key(k));
                    newest += u64::from(changes);
                    prop_assert_eq!(revision(committed), newest);
                    model.retain(|key, _| !gone.contains(key));
                    for (key, value) in puts {
                        model.insert(format!("/{key}"), (value, newest));
                    }
                }
            }
            let listing = store.range("/").unwrap();
            prop_assert_eq!(listing.revision, newest);
            let entries = listing.entries.into_iter().map(|e| (e.key, (e.value[0], e.modified)));
            prop_assert_eq!(entries.collect::<BTreeMap<_, _>>(), model.clone());
        }
        // The story, told from its beginning, ends where the map is.
        let mut told = BTreeMap::new();
        for change in store.watch("/", 1).unwrap().poll().unwrap() {
            match change.entry {
                Some(entry) => told.insert(change.key, (entry.value[0], entry.modified)),
                None => told.remove(&change.key),
            };
        }
        prop_assert_eq!(told, model);
    }
}
