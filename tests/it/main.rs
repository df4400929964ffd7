//! What the programs promise, told through the real binaries.

mod access;
mod at_rest;
mod autobahn;
mod basic;
mod bots;
mod browser;
mod certificates;
mod client;
mod confidential;
mod configuration;
mod fernet_vectors;
mod floors;
mod full;
mod limits;
mod logging;
mod mishaps;
mod ngrok;
mod proxy;
mod python;
mod reliability;
mod rights;
mod support;
mod systemd;
mod terminal;
mod tls;
