//! Control from outside: behaviour by tables, the store's conformance, and a seeded simulation.

#[cfg(test)]
mod behaviour;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod failing;
#[cfg(test)]
mod order;
#[cfg(test)]
mod places;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod starts;
#[cfg(test)]
mod store;
#[cfg(test)]
mod support;
#[cfg(test)]
mod world;
