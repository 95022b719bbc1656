//! The program as a person uses it: real files, real processes, the built `ms`.

mod builds;
mod clients;
mod deep;
mod disk;
mod ending;
mod events_cli;
mod exec;
mod failures;
mod flood;
mod given;
mod harness;
mod host;
mod images;
mod interrupted;
mod keys;
mod kills;
mod life;
mod load;
mod machine;
mod names;
mod ordinary_user;
mod part;
mod programs;
mod redeploy;
mod replaced;
mod udp;
