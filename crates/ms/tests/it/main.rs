//! The program as a person uses it: real files, real processes, the built `ms`.

mod builds;
mod clients;
mod deep;
mod ending;
mod exec;
mod failures;
mod given;
mod harness;
mod host;
mod images;
mod interrupted;
mod keys;
mod kills;
mod life;
mod load;
mod names;
mod ordinary_user;
mod redeploy;
mod replaced;
mod udp;
