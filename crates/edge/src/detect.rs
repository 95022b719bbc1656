//! Finds out what a connection speaks.
pub(crate) use crate::http_conn::serve;
