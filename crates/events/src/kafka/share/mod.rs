//! Share groups on the wire (KIP-932): queues over the log, a verdict for each record.
//!
//! Not here: what a record's state is, and when a change is durable (`engine::groups`).

pub(crate) mod members;
pub(crate) mod offsets;
pub(crate) mod records;
pub(crate) mod sessions;
