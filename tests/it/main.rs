//! One integration crate: what a host, a buyer, a viewer or an operator can see, on both databases.
//!
//! `both!` runs a test on SQLite and on PostgreSQL. Each test owns its database and its port; PostgreSQL is a private
//! cluster that the harness starts and stops, with a private Redis between its nodes.

// Tests are outside: they have a wall clock, may look into the database directly, and end where something is missing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod harness;

mod check;
mod checkout;
mod cluster;
mod demo;
mod desk;
mod gmv;
mod contest;
mod crash;
mod crowd;
mod import;
mod limits;
mod live;
mod migrate;
mod nodes;
mod openapi;
mod operate;
mod overlay;
mod plans;
mod poll;
mod process;
mod refusals;
mod sandbox;
mod schema;
mod server;
mod slow;
mod tidy;
mod web;
mod webhook;
