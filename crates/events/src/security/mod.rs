//! Who a client is, what it may do, and how much of it.
//!
//! Not here: messages of a protocol, and where any of this is kept. Pure: randomness and time come
//! in as arguments.
//!
//! Vocabulary: a *principal* is whom a connection acts for; [`credentials`] says how it proves
//! that, [`acls`] what it may do, [`quotas`] how fast.

pub mod acls;
pub mod credentials;
pub mod quotas;
pub mod scram;
