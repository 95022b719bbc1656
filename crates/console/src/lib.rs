//! The web pages and the HTTP API: one API for the browser and the command line.
//!
//! Not here: what the engine does. The console asks an [`Engine`], which the binary implements,
//! and shows what it answers.
//!
//! Vocabulary: [`serve`] answers on TCP (guarded: `Host`, `Origin`, credentials or user) and on Unix
//! sockets (trusted: whoever may open the socket may command); [`client`] is the other end, for
//! the command line; [`wire`] is what travels between them.
//!
//! Invariants: nothing that a client sends ends the process or grows a buffer past its bound; a
//! request that is refused changes nothing; a TCP listener beyond loopback needs credentials, and an
//! address that guesses at them is shut out for a while.

pub mod client;
pub mod config;
pub mod engine;
pub mod event_log;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod socket;
pub mod wire;

mod assets;
mod guard;
mod guesses;
mod live;
mod query;
mod reply;
mod routes;
mod server;
mod stream;

#[cfg(test)]
mod openapi;

pub use config::{ConsoleConfig, Credentials};
pub use engine::Engine;
pub use server::{Listeners, serve};
