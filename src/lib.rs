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
pub mod units; // how many pieces
pub mod config; // every setting and limit with its default
pub mod storage; // where the data is, and whose
pub mod error; // codes of refusals; everything else is logged and answered as `internal`
pub mod failpoints; // named points at which tests kill or disturb the process
pub mod telemetry; // what the process tells about itself

// What shops bring.
pub mod catalogue; // Shopify CSV and JSON lists, read row by row

// Between nodes.
pub mod messenger; // Redis, through which nodes tell each other things
pub mod bucket; // so many a second, for all nodes together

// The port to the payment provider.
pub mod payment; // calls, signed events, the sandbox

// The engines.
pub mod outside; // calls to addresses that shops name
pub mod live; // ENGINE 1: the log, rooms, sockets
pub mod scene; // what a viewer sees, and the fold
pub mod lane; // collect, decide together, commit once, answer everyone
pub mod checkout; // ENGINE 2: who gets the unit, exactly once
pub mod ballot; // polls: each vote counted once, many together

// What every handler gets.
pub mod auth; // tokens and roles
pub mod rate; // how often somebody may ask
pub mod request; // bodies, paths, pages, requests that may come twice
pub mod pulse; // what a live show looks like from here, once a second
pub mod app; // the handles

// Features: one file each, HTTP and SQL together.
pub mod refusal; // the rules' refusals as problems
pub mod show; // created, started, ended
pub mod product; // the catalogue
pub mod import; // a whole catalogue at once
pub mod lineup; // the products of a show and their units
pub mod sale; // flash sales
pub mod order; // holds, payments, orders, refunds
pub mod pin; // the product on screen
pub mod overlay; // banners and countdowns
pub mod poll; // questions to the audience
pub mod stage_clock; // what leaves the stage by itself
pub mod gmv; // events for whoever keeps the books
pub mod sink; // who follows the logs, from where on, and which node tells them
pub mod webhook; // events to the shop's own addresses
pub mod stream; // events into a stream of Redis
pub mod desk; // who did what, and how a show goes
pub mod viewer; // the snapshot of a show, and the socket route
pub mod page; // a plain page to look at
pub mod web; // the built pages: viewer, control panel, dashboard
pub mod openapi; // the API's document, and a page that shows it

// What an operator runs.
pub mod check; // the invariants, asked of a database
pub mod export; // the log as lines of JSON
pub mod backup; // a copy of the database, and the way back
pub mod prune; // old logs leave the database

// Assembly.
pub mod server; // the router, the accept loop, shutting down
pub mod demo; // a short live sale against a server of its own, counted from outside
