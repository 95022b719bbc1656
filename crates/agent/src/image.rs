//! The files that a Dockerfile copies, as content-addressed layers.
