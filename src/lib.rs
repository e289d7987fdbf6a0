//! Showcart puts a shop floor under a live video.
//!
//! One idea carries it: **one ordered event log per show, in the database**. A change and its entries commit in one
//! transaction; sockets, streams and reports only carry what the log already says.
//!
//! The list of modules below is the reading order and the order of dependency: a file uses only what stands above it
//! (`tests/it/tidy.rs` checks that).

// Vocabulary.
pub mod clock; // one clock, the database's
pub mod db; // one SQL text for both databases
pub mod ids; // ShowId, HoldId, OrderId…: a prefix and a UUIDv7
pub mod money; // minor units and a currency
pub mod config; // every setting and limit with its default
pub mod error; // codes of refusals; everything else is logged and answered as `internal`

// What every handler gets.
pub mod auth; // tokens and roles
pub mod app; // the handles

// Assembly.
pub mod server; // the router, the accept loop, shutting down
