//! The web pages and the HTTP API: one API for the browser and the command line.
//!
//! Not here: what the engine does. The console asks an [`Engine`], which the binary implements,
//! and shows what it answers.

pub mod engine;
pub mod wire;

pub use engine::Engine;
