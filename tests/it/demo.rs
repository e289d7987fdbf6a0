//! `showcart demo`, run as a person runs it: it ends well when all is well, and says what is wrong when something is.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

/// Runs a small demo; its exit code and the object on the last line of its stdout.
async fn demo(failpoint: Option<&str>) -> (Option<i32>, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_showcart"));
    command
        .args(["demo", "--viewers", "20", "--buyers", "40", "--units", "5", "--seconds", "5", "--json"])
        .env_clear()
        // Where it makes its folder.
        .env("TMPDIR", folder.path())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(it) = failpoint {
        command.env("SHOWCART_FAILPOINTS", it);
    }
    let done = tokio::time::timeout(Duration::from_secs(90), command.output()).await.expect("it ends").unwrap();
    let stdout = String::from_utf8(done.stdout).unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    let last = stdout.lines().last().unwrap_or_else(|| panic!("nothing was said:\n{stderr}"));
    let report = serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON at the end:\n{stdout}\n{stderr}"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is gone");
    (done.status.code(), report, stdout)
}

/// The names of the invariants that do not hold.
fn broken(report: &Value) -> Vec<&str> {
    let all = report["invariants"].as_array().unwrap().iter();
    all.filter(|it| it["ok"] == false).filter_map(|it| it["name"].as_str()).collect()
}

#[tokio::test]
async fn a_small_sale_ends_well_and_says_so() {
    let (code, report, text) = demo(None).await;
    assert_eq!((code, broken(&report)), (Some(0), vec![]), "{text}");
    for (name, expected) in [
        ("viewers", 20),
        ("events_lost", 0),
        ("units_allocated", 5),
        ("orders_paid", 5),
        ("units_oversold", 0),
        ("requests_unanswered", 0),
    ] {
        assert_eq!(report[name], expected, "{name}");
    }
    // Nine entries are for everybody: four pins, and the sale's and the show's.
    assert!(report["events_delivered"].as_i64() >= Some(20 * 8), "{report}");
    assert!(report["gauge_p99_ms"].as_i64().is_some_and(|it| it >= 0));
    assert_eq!(report["gmv_orders_minor"], report["gmv_events_minor"]);
    assert!(report["gmv_orders_minor"].as_i64() > Some(0));
    assert_eq!((&report["currency"], &report["invariants_ok"]), (&"EUR".into(), &true.into()));
    assert!(text.contains("sold out") && text.contains("✓ no unit is sold twice"), "{text}");
}

#[tokio::test]
async fn an_entry_that_one_viewer_never_gets_is_missed() {
    let (code, report, text) = demo(Some("viewer_loses_entry=30")).await;
    assert_eq!(code, Some(1), "{text}");
    assert_eq!((&report["events_lost"], &report["invariants_ok"]), (&1.into(), &false.into()));
    assert!(broken(&report).contains(&"nothing is lost"), "{text}");
}

#[tokio::test]
async fn a_buyer_who_never_gets_an_answer_is_missed() {
    let (code, report, text) = demo(Some("buyer_gets_no_answer=20")).await;
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(report["requests_unanswered"], 1);
    assert!(broken(&report).contains(&"every request is answered"), "{text}");
}

#[tokio::test]
async fn a_paid_order_that_the_books_never_hear_of_is_missed() {
    let (code, report, text) = demo(Some("gmv_loses_event=2")).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(report["gmv_events_minor"].as_i64() < report["gmv_orders_minor"].as_i64(), "{text}");
    assert_eq!(broken(&report), ["each paid order is one event", "GMV agrees"]);
}
