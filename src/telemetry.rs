//! What the process tells about itself, as Prometheus reads it.
//!
//! Counters and histograms are recorded where things happen; gauges are set when somebody asks, by whoever owns the number.
//! The recorder belongs to the process: servers that share one (tests do that) share its counters.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From a pass over an empty room to one that takes as long as people wait.
const SECONDS: &[f64] = &[0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
/// From a lone buyer to a full batch.
const COMMANDS: &[f64] = &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0];
/// Recorded values wait in memory until they are sorted into buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Everything that was measured so far, in Prometheus' text format. The first call begins the measuring.
pub fn render() -> String {
    recorder().render()
}

/// Begins the measuring, once per process; what is recorded earlier is lost.
pub fn install() {
    recorder();
}

fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
            .expect("the list above is not empty")
            .set_buckets_for_metric(Matcher::Suffix("_commands".into()), COMMANDS)
            .expect("the list above is not empty")
            .install_recorder()
            .expect("nobody else installs a recorder");
        describe();
        // A thread, because it must outlive whichever runtime came first; it ends with the process.
        let upkeep = handle.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(UPKEEP);
                upkeep.run_upkeep();
            }
        });
        handle
    })
}

/// `tests/it/tidy.rs` checks that every metric stands here.
fn describe() {
    describe_gauge!("showcart_sockets_open", "Viewers and desks with an open socket on this node.");
    describe_gauge!("showcart_rooms_open", "Shows that somebody watches on this node, or watched seconds ago.");
    describe_gauge!("showcart_viewers_behind", "Viewers who read too slowly and get a snapshot next.");
    describe_counter!("showcart_sockets_closed_total", "Sockets that this node closed, by reason.");
    describe_counter!("showcart_connections_refused_total", "Connections over a limit, by which.");
    describe_counter!("showcart_requests_limited_total", "Requests of those who asked too often.");
    describe_counter!("showcart_votes_total", "Votes that were decided, by what became of them.");
    describe_histogram!("showcart_votes_batch_commands", "Votes that were counted together.");
    describe_counter!("showcart_bus_dropped_total", "Messages that the bus did not take; rooms read the log instead.");
    describe_counter!("showcart_bus_unreadable_total", "Messages of other nodes that could not be read.");
    describe_gauge!("showcart_bus_connected", "1 when what this node says to Redis comes back to it, else 0.");
    describe_histogram!("showcart_bus_seconds", "Time from saying something to Redis to hearing it.");
    describe_counter!("showcart_room_dropped_total", "Messages that found a room busy; it reads the log instead.");
    describe_gauge!(
        "showcart_sqlite_log_pages",
        "Pages in SQLite's write-ahead log: many while a long reader holds them."
    );
    describe_counter!("showcart_log_repairs_total", "Times that a room read the log because something was missing.");
    describe_histogram!("showcart_pass_seconds", "Time to write one frame to everybody in a room.");
    describe_gauge!("showcart_requests_waiting", "Requests for units that wait for a lane's next batch on this node.");
    describe_histogram!("showcart_batch_commands", "Commands that a lane decided together.");
    describe_histogram!("showcart_batch_seconds", "Time of a lane's batch, from its lock to its commit.");
    describe_counter!("showcart_lane_alarms_total", "Commands that the database refused for a reason nobody foresaw.");
    describe_counter!("showcart_provider_errors_total", "Calls of the payment provider whose outcome is unknown.");
    describe_counter!("showcart_provider_denied_total", "Calls for which the provider does not take our API key.");
    describe_gauge!("showcart_payments_overdue", "Payments whose units wait for the provider past their time.");
    describe_counter!("showcart_payments_refused_total", "Payments that the provider would not take.");
    describe_counter!(
        "showcart_refunds_failed_total",
        "Refunds that the provider will not send: somebody has to look."
    );
    describe_gauge!("showcart_refunds_owed", "Charges for nothing that did not go back: the desk has to ask again.");
    describe_counter!("showcart_webhook_attempts_total", "Events sent to webhooks, by how that ended.");
    describe_counter!("showcart_webhooks_disabled_total", "Webhooks that the server gave up, by reason.");
    describe_gauge!("showcart_webhooks_waiting", "Webhooks to which an event could not be brought yet.");
    describe_gauge!("showcart_webhook_oldest_seconds", "Age of the oldest event that a webhook has not taken yet.");
    describe_counter!("showcart_stream_events_total", "Events that this node added to the GMV stream in Redis.");
    describe_gauge!("showcart_stream_connected", "1 while Redis takes the GMV stream of this node, else 0.");
    describe_counter!("showcart_events_unknown_total", "Events of the provider about payments that are not ours.");
}
