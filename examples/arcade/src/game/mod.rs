//! The rules of the game, as pure data and functions: no clock, no I/O, no names, no network.
//!
//! Time comes in as an argument (since the room's start) and chance from a seed, so a game can be
//! replayed from its inputs. Vocabulary: a [`World`] is one room's board, a [`Snake`] belongs to a
//! member of the room by its [`SnakeId`], and a tick moves every snake by one cell.

pub(crate) mod bot;
pub(crate) mod chance;
pub(crate) mod grid;
pub(crate) mod speed;
pub(crate) mod world;

#[cfg(test)]
mod world_tests;

pub(crate) use grid::{Cell, Direction};
pub(crate) use speed::Speed;
pub(crate) use world::{Cause, Input, SnakeId, Step, World};
