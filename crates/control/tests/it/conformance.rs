//! What every store must do: one suite for the embedded store and for etcd.
//!
//! Each function takes a fresh, empty store and panics, with the reason, where it breaks the
//! contract of `control::store`. Time for leases moves through `advance`, so that a test of the
//! embedded store need not wait.

use std::time::Duration;

use control::store::{
    Committed, KEY_BYTES_MAX, LeaseId, Store, StoreError, Txn, VALUE_BYTES_MAX, Watch,
};

/// Everything but what needs the history to be cut.
pub(crate) fn all(store: &dyn Store, advance: &dyn Fn(Duration)) {
    values_have_revisions(store);
    transactions_are_all_or_nothing(store);
    ranges_are_prefixes_in_order(store);
    bad_transactions_are_refused(store);
    watches_have_no_gaps(store);
    leases_end_with_their_owner(store, advance);
}

fn done(committed: Result<Committed, StoreError>) -> u64 {
    match committed {
        Ok(Committed::Done { revision }) => revision,
        other => panic!("expected the transaction to be done: {other:?}"),
    }
}

fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    let listing = store.range(prefix).expect("range answers");
    listing.entries.into_iter().map(|entry| entry.key).collect()
}

/// An entry knows the revisions that made and changed it; a deleted key begins anew.
pub(crate) fn values_have_revisions(store: &dyn Store) {
    assert_eq!(store.get("/v/a").expect("get answers"), None);
    let first = done(store.commit(&Txn::new().put("/v/a", "1")));
    let second = done(store.commit(&Txn::new().put("/v/a", "2")));
    assert_eq!(second, first + 1);
    let entry = store.get("/v/a").expect("get answers").expect("it was put");
    assert_eq!((entry.value.as_slice(), entry.created, entry.modified), (&b"2"[..], first, second));
    let third = done(store.commit(&Txn::new().delete("/v/a")));
    assert_eq!(store.get("/v/a").expect("get answers"), None);
    let nothing = done(store.commit(&Txn::new().delete("/v/a")));
    assert_eq!(nothing, third, "a transaction that changes nothing keeps the revision");
    let again = done(store.commit(&Txn::new().put("/v/a", "")));
    let entry = store.get("/v/a").expect("get answers").expect("it was put");
    assert_eq!((entry.created, entry.modified), (again, again));
    assert!(entry.value.is_empty(), "an empty value is a value");
}

/// Comparisons guard all operations of a transaction, and a conflict shows what is there.
pub(crate) fn transactions_are_all_or_nothing(store: &dyn Store) {
    let made = done(store.commit(&Txn::new().expect("/t/a", 0).put("/t/a", "1").put("/t/b", "1")));
    let late = Txn::new().expect("/t/a", 0).put("/t/a", "2").put("/t/c", "2").delete("/t/b");
    match store.commit(&late) {
        Ok(Committed::Conflict { key, found }) => {
            assert_eq!(key, "/t/a");
            assert_eq!(found.map(|e| (e.value, e.modified)), Some((b"1".to_vec(), made)));
        }
        other => panic!("expected a conflict: {other:?}"),
    }
    assert_eq!(keys(store, "/t/"), ["/t/a", "/t/b"], "a conflict does nothing");
    let next = Txn::new().expect("/t/a", made).expect("/t/none", 0).put("/t/a", "2").delete("/t/b");
    let next = done(store.commit(&next));
    assert_eq!(next, made + 1, "one revision for the whole transaction");
    assert_eq!(keys(store, "/t/"), ["/t/a"]);
    let gone = Txn::new().expect("/t/b", made).put("/t/a", "3");
    let conflict = store.commit(&gone).expect("commit answers");
    assert_eq!(conflict, Committed::Conflict { key: "/t/b".to_owned(), found: None });
}

/// A range is a prefix of bytes, ordered, with the revision that it is of.
pub(crate) fn ranges_are_prefixes_in_order(store: &dyn Store) {
    let txn = Txn::new().put("/r/b", "").put("/r/a", "").put("/r/a/x", "").put("/rr", "");
    let revision = done(store.commit(&txn.put("/r/ä", "")));
    assert_eq!(keys(store, "/r/"), ["/r/a", "/r/a/x", "/r/b", "/r/ä"]);
    assert_eq!(keys(store, "/r/a"), ["/r/a", "/r/a/x"]);
    assert_eq!(keys(store, "/r/z"), Vec::<String>::new());
    assert_eq!(store.range("/r/").expect("range answers").revision, revision);
}

/// What a store does not take, it refuses whole.
pub(crate) fn bad_transactions_are_refused(store: &dyn Store) {
    let long = format!("/{}", "k".repeat(KEY_BYTES_MAX));
    for (bad, why) in [
        (Txn::new().put("/b/ok", "").put("relative", ""), "a key without a slash"),
        (Txn::new().put("/b/ok", "").put(long, ""), "a long key"),
        (Txn::new().put("/b/ok", "").put("/b/v", vec![0; VALUE_BYTES_MAX + 1]), "a large value"),
        (Txn::new().put("/b/ok", "").delete("/b/ok"), "a key twice"),
    ] {
        let refused = store.commit(&bad);
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{why}: {refused:?}");
    }
    assert_eq!(keys(store, "/b/"), Vec::<String>::new());
    done(store.commit(&Txn::new().put("/b/v", vec![7; VALUE_BYTES_MAX])));
    done(store.commit(&Txn::new().delete("/b/v")));
}

/// A watch gives every change under its prefix once, in order, from any kept revision on.
pub(crate) fn watches_have_no_gaps(store: &dyn Store) {
    let before = store.range("/w/").expect("range answers").revision;
    let mut early = store.watch("/w/", before + 1).expect("watch starts");
    assert!(poll(&mut *early).is_empty());
    let seen = early.revisions();
    let first = done(store.commit(&Txn::new().put("/w/a", "1").put("/other", "1")));
    assert!(*seen.borrow() >= first, "the newest revision is announced");
    done(store.commit(&Txn::new().put("/other", "2")));
    let third = done(store.commit(&Txn::new().put("/w/a", "2").put("/w/b", "2")));
    let fourth = done(store.commit(&Txn::new().delete("/w/a")));
    let expected = [
        (first, "/w/a", Some("1")),
        (third, "/w/a", Some("2")),
        (third, "/w/b", Some("2")),
        (fourth, "/w/a", None),
    ];
    let mut late = store.watch("/w/", before + 1).expect("watch starts");
    let mut resumed = store.watch("/w/", third).expect("watch starts");
    for (watch, expected) in
        [(&mut early, &expected[..]), (&mut late, &expected[..]), (&mut resumed, &expected[1..])]
    {
        let changes = poll(&mut **watch);
        let got: Vec<_> = changes
            .iter()
            .map(|c| {
                let value = c.entry.as_ref().map(|e| std::str::from_utf8(&e.value).expect("text"));
                (c.revision, c.key.as_str(), value)
            })
            .collect();
        assert_eq!(got, expected);
        assert!(poll(&mut **watch).is_empty(), "a change is given once");
    }
}

/// Everything that is there now.
fn poll(watch: &mut dyn Watch) -> Vec<control::store::Change> {
    let mut all = Vec::new();
    loop {
        let more = watch.poll().expect("the history is kept");
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// What a lease holds goes with it, in one revision that watches see; a put without the lease
/// frees a key from it.
pub(crate) fn leases_end_with_their_owner(store: &dyn Store, advance: &dyn Fn(Duration)) {
    let ttl = Duration::from_secs(10);
    let lease = store.grant(ttl).expect("a lease");
    let other = store.grant(ttl * 10).expect("another lease");
    assert_ne!(lease, other);
    let txn = Txn::new().put_leased("/l/a", "", lease).put_leased("/l/b", "", lease);
    let txn = txn.put_leased("/l/c", "", other).put("/l/free", "");
    let revision = done(store.commit(&txn));
    done(store.commit(&Txn::new().put("/l/b", "kept")));
    let mut watch = store.watch("/l/", revision + 2).expect("watch starts");
    advance(Duration::from_secs(8));
    store.keep_alive(lease).expect("it lives");
    advance(Duration::from_secs(8));
    assert_eq!(keys(store, "/l/").len(), 4, "a sign of life is good for the whole time");
    advance(Duration::from_secs(3));
    assert_eq!(keys(store, "/l/"), ["/l/b", "/l/c", "/l/free"]);
    assert_eq!(store.get("/l/a").expect("get answers"), None);
    let changes = poll(&mut *watch);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].key.as_str(), &changes[0].entry), ("/l/a", &None));
    assert!(matches!(store.keep_alive(lease), Err(StoreError::LeaseGone(_))));
    let late = store.commit(&Txn::new().put_leased("/l/a", "", lease));
    assert!(matches!(late, Err(StoreError::LeaseGone(_))), "{late:?}");
    store.revoke(other).expect("it lives");
    assert_eq!(keys(store, "/l/"), ["/l/b", "/l/free"]);
    assert!(matches!(store.revoke(LeaseId(u64::MAX)), Err(StoreError::LeaseGone(_))));
}
