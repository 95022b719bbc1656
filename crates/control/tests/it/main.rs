//! Control from outside: behaviour by tables, the store's conformance, and a seeded simulation.

mod behaviour;
mod durable;
mod simulation;
mod store;
mod support;
mod world;
