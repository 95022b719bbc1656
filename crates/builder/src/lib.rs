//! Builds the image that a Dockerfile describes, with what this machine has and without Docker.
//!
//! Not here: reading Dockerfiles (`spec::dockerfile`), isolation (`agent`), and when something is
//! built. An image here is a list of layers over a base and a recipe; nothing is packed.
//!
//! Entry points: [`Builder::build`] for a Dockerfile, [`Builder::image`] for an image that the
//! machine can stand in for, [`keep`] for single files, [`Builder::fill`] for volumes over an image's
//! files, [`Builder::prune`] for what nobody needs.
//!
//! Vocabulary: a *base* is what a stage begins with, a *layer* a folder laid over it, a *key* what
//! a layer is called: equal keys hold the same. A step whose key is there is not run again.
//!
//! Invariants: a build that fails, is cancelled or crashes leaves nothing that is seen as a layer;
//! only what a step may see and change is its own view of the files.

mod add;
mod base_image;
mod build;
mod copy;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod glob;
mod host;
mod mounts;
mod owner;
mod progress;
mod run;
mod skeleton;
mod store;
mod tree;
mod view;
mod volume;
mod work;

pub use build::{Builder, Image, Order, Secret, keep};
pub use error::BuildError;
pub use progress::{Progress, Watch};
pub use store::{Keep, Pruned};
pub use volume::FillError;
