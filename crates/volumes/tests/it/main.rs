//! Volumes on a disk that crashes.

mod crash;
mod model;
mod plain;
mod settle;
mod threads;
