//! What the programs promise, told through the real binaries.

mod access;
mod autobahn;
mod basic;
mod bots;
mod client;
mod configuration;
mod fernet_vectors;
mod floors;
mod full;
mod limits;
mod logging;
mod ngrok;
mod python;
mod reliability;
mod support;
mod systemd;
mod terminal;
mod tls;
