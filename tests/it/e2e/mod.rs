//! End-to-end rooms. On the server: names, rights, and the one rule, with devices that send opaque bytes. And from client
//! to client, with the real programs.

mod admins;
mod backup;
mod between_clients;
mod deposits;
mod device;
mod direct;
mod entry;
mod kills;
mod lying;
mod member;
mod nodes;
mod own_devices;
mod promises;
mod rights;
mod rule;
mod terminal;
mod trust;
mod writers;
