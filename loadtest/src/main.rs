//! Load scenarios, each with its bare reference in the same run: ratios count, not the machine.
//!
//! In `fanout` the server and the reference run on core 0, this process on core 1; otherwise all share both. Runs alternate; the
//! figures are medians.

mod beside;
mod fanout;
mod holds;
mod machine;
mod nodes;
mod postgres;
mod shop;

use clap::{Parser, Subcommand};

/// Load scenarios for Showcart, and the bare references beside them.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// CPU of the server for each frame delivered, and memory for each viewer; reference: a bare loop of send().
    Fanout(fanout::Options),
    /// How long buyers wait while a catalogue comes in and viewers vote; reference: the same sale without.
    Beside(beside::Options),
    /// Durable holds a second through the lane; reference: one transaction for each hold.
    Holds(holds::Options),
    /// Many nodes with many viewers, one of them killed in the middle of a sale.
    Nodes(nodes::Options),
    /// The viewers of one node. Started by `nodes`.
    #[command(hide = true)]
    Crowd(nodes::CrowdOptions),
    /// The reference of `fanout`: accepts viewers and sends each the same frame. Started by `fanout`.
    #[command(hide = true)]
    Floor(fanout::FloorOptions),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().scenario {
        Scenario::Fanout(options) => machine::on_core_1(|| machine::runtime()?.block_on(fanout::run(options))),
        Scenario::Beside(options) => machine::runtime()?.block_on(beside::run(options)),
        Scenario::Holds(options) => machine::runtime()?.block_on(holds::run(options)),
        Scenario::Nodes(options) => machine::runtime()?.block_on(nodes::run(options)),
        Scenario::Crowd(options) => machine::runtime()?.block_on(nodes::crowd(options)),
        Scenario::Floor(options) => fanout::floor(&options),
    }
}

/// The middle one; of an even number the lower of the two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN)
}
