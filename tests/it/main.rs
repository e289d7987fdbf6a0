//! One integration crate: what a host, a buyer, a viewer or an operator can see, on both databases.
//!
//! `both!` runs a test on SQLite and on PostgreSQL. Each test owns its database and its port; PostgreSQL is a private
//! cluster that the harness starts and stops.

#![allow(clippy::disallowed_methods)] // Tests are outside: they have a wall clock and may look into the database directly.

mod harness;

mod server;
mod tidy;
