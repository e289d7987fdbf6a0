//! Catalogues that are brought in: what is refused, what is applied, and what a shop that sells meanwhile feels of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use showcart::auth::Role;
use showcart::ids::{HoldId, ShowId};
use showcart::import::{self, Args, Style};
use showcart::storage::Storage;

use crate::harness::{Answer, Backend, Door, PATIENCE, Person, Process, Shop, both, on_both};

const OLD: &str = "Handle,Title,Body (HTML),Option1 Name,Option1 Value,Variant SKU,Variant Inventory Qty,Variant Price,Image Src\n\
    hat,Wool hat,<p>Warm</p>,Colour,Red,HAT-R,7,24.90,https://img.example/hat.jpg\n\
    hat,,,,Blue,HAT-B,0,24.90,\n\
    hat,,,,,,,,https://img.example/hat-2.jpg\n\
    mug,Mug,,Title,Default Title,MUG,12,9.50,\n";
const NEW: &str = "Title,URL handle,Description,SKU,Option1 name,Option1 value,Price,Inventory quantity,Product image URL\n\
    Scarf,scarf,Long,SCARF,Title,Default Title,39.00,3,https://img.example/scarf.jpg\n";
const LIST: &str = r#"{"products": [{"id": 1, "title": "Soap", "price": 4.99, "stock": 30, "sku": "SOAP"},
    {"id": 2, "title": "Brush", "price": 3}]}"#;

async fn upload(person: &Person<'_>, query: &str, file: impl Into<Vec<u8>>, key: &str) -> Answer {
    let request = person.request(Method::POST, &format!("/v1/imports{query}")).header("idempotency-key", key);
    Answer::read(request.body(file.into()).send().await).await
}

/// Asks until the job has ended.
async fn ended(door: &Door, import: &Value, patience: Duration) -> Value {
    let path = format!("/v1/imports/{}", import["import_id"].as_str().expect("an import has an id"));
    let host = door.host();
    let mut now = json!({ "state": "running" });
    let asked = async {
        while now["state"] == "running" {
            now = host.get(&path).await.ok();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| panic!("it goes on and on: {now}"));
    now
}

async fn import_over_http(door: &Door, query: &str, file: impl Into<Vec<u8>>) -> Value {
    let begun = upload(&door.host(), query, file, &HoldId::new().to_string()).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    ended(door, &begun.body, PATIENCE).await
}

/// read, created, changed, unchanged, refused
fn counts(report: &Value) -> [u64; 5] {
    ["read", "created", "changed", "unchanged", "refused"].map(|it| report[it].as_u64().expect("a count"))
}

fn reasons(report: &Value) -> Vec<String> {
    let all = report["refusals"].as_array().expect("a list");
    all.iter().map(|it| format!("{} {}", it["line"], it["reason"].as_str().expect("a sentence"))).collect()
}

fn args(shop: &Shop, file: PathBuf, over_http: bool) -> Args {
    Args {
        file,
        currency: Some("EUR".parse().unwrap()),
        format: None,
        partial: false,
        server: over_http.then(|| shop.url("/").parse().unwrap()),
        token: None,
        report: None,
        storage: Storage::of(&shop.app.config),
        secret: shop.app.config.secret.clone(),
    }
}

async fn on_hand(shop: &Shop, sku: &str) -> i64 {
    let mut tx = shop.app.db.read().await.unwrap();
    let sql = "select on_hand from stock s join product p on p.product_id = s.product_id where sku = $1";
    let (on_hand,): (i64,) = showcart::db::query(sql).bind(sku).one(&mut tx).await.unwrap();
    on_hand
}

both! {
    async fn catalogues_of_three_kinds_come_in_and_coming_again_changes_nothing(shop) {
        for (query, file, rows) in [
            ("?currency=EUR", OLD, 3),
            ("?currency=EUR&format=csv", NEW, 1),
            ("?currency=EUR&format=json", LIST, 2),
        ] {
            let first = import_over_http(&shop, query, file).await;
            assert_eq!((first["state"].as_str(), counts(&first)), (Some("done"), [rows, rows, 0, 0, 0]), "{first}");
            let again = import_over_http(&shop, query, file).await;
            assert_eq!(counts(&again), [rows, 0, 0, rows, 0], "{again}");
        }
        let hat = shop.host().get("/v1/products/HAT-B").await.ok();
        assert_eq!((&hat["title"], &hat["variant"], &hat["price_minor"]), (&json!("Wool hat"), &json!("Blue"), &json!(2_490)));
        assert_eq!((on_hand(&shop, "HAT-R").await, on_hand(&shop, "SOAP").await, on_hand(&shop, "~2").await), (7, 30, 0));

        // A source that does not say how many there are leaves what there is; one that does sets it.
        let silent = import_over_http(&shop, "", "sku,title,price,currency\nMUG,Big mug,11,EUR\n").await;
        assert_eq!((counts(&silent), on_hand(&shop, "MUG").await), ([1, 0, 1, 0, 0], 12));
        let counted = import_over_http(&shop, "", "sku,title,price,currency,stock\nMUG,Big mug,11,EUR,5\n").await;
        assert_eq!((counts(&counted), on_hand(&shop, "MUG").await), ([1, 0, 1, 0, 0], 5));
    }
}

both! {
    async fn a_bad_row_is_refused_with_its_line_and_the_others_go_on(shop) {
        let file = "sku,title,price,stock\nA,One,1.00,1\nB,Two,2.005,1\nA,Again,3,1\nC,\"Three,4,1\nD,Four,5,1\n";
        let report = import_over_http(&shop, "?currency=EUR", file).await;
        assert_eq!(counts(&report), [5, 2, 0, 0, 3], "{report}");
        let reasons = reasons(&report);
        assert!(reasons[0].starts_with("3 The price is \"2.005\"; EUR has 2 decimals"), "{reasons:?}");
        assert!(reasons[1].starts_with("4 The SKU stands already in line 2"), "{reasons:?}");
        assert!(reasons[2].starts_with("5 The quote that opens in line 5 is not closed"), "{reasons:?}");
        assert_eq!(report["refusals"][0]["sku"], "B");

        let no_currency = import_over_http(&shop, "", "sku,title,price\nE,Five,1\n").await;
        assert_eq!((&no_currency["state"], counts(&no_currency)), (&json!("refused"), [1, 0, 0, 0, 1]));
        let latin1 = import_over_http(&shop, "?currency=EUR", &b"sku,title,price\nF,Caf\xe9,1\nG,Tea,1\n"[..]).await;
        assert_eq!((&latin1["state"], counts(&latin1)), (&json!("done"), [2, 1, 0, 0, 1]));
        let utf16: Vec<u8> = "sku,title,price\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(import_over_http(&shop, "?currency=EUR", utf16).await["state"], "refused");

        // Nothing of a file that breaks off, unless it is wanted.
        let broken = r#"[{"sku": "H", "title": "Half", "price": 1},"#;
        let refused = import_over_http(&shop, "?currency=EUR", broken).await;
        assert_eq!((&refused["state"], counts(&refused)), (&json!("refused"), [2, 0, 0, 0, 1]));
        assert_eq!(shop.host().get("/v1/products/H").await.status, 404);
        let partial = import_over_http(&shop, "?currency=EUR&partial=true", broken).await;
        assert_eq!((&partial["state"], counts(&partial)), (&json!("done"), [2, 1, 0, 0, 1]));
    }
}

both! {
    async fn less_than_shows_have_is_refused(shop) {
        shop.show_with(5).await;
        let file = "sku,title,price,stock\nlamp,Bright lamp,30,4\nvase,Vase,5,4\n";
        let report = import_over_http(&shop, "?currency=EUR", file).await;
        assert_eq!(counts(&report), [2, 1, 0, 0, 1], "{report}");
        assert!(reasons(&report)[0].starts_with("2 Shows have 5 units of it and the quantity is 4"), "{report}");
        let lamp = shop.host().get("/v1/products/lamp").await.ok();
        assert_eq!((lamp["title"].as_str(), on_hand(&shop, "lamp").await), (Some("The lamp"), 5));
        let enough = import_over_http(&shop, "?currency=EUR", file.replace(",30,4", ",30,5")).await;
        assert_eq!((counts(&enough), on_hand(&shop, "lamp").await), ([2, 0, 1, 1, 0], 5));
    }
}

both! {
    async fn the_same_upload_twice_is_one_import(shop) {
        let host = shop.host();
        let begun = upload(&host, "?currency=EUR", OLD, "monday").await;
        let again = upload(&host, "?currency=EUR", OLD, "monday").await;
        assert_eq!((begun.status, again.status, &begun.body), (202, 202, &again.body));
        assert_eq!(counts(&ended(&shop, &begun.body, PATIENCE).await), [3, 3, 0, 0, 0]);
        assert_eq!(upload(&host, "?currency=EUR", NEW, "monday").await.refusal(), (422, "idempotency_key_reused"));
        assert_eq!(upload(&host, "?currency=USD", OLD, "monday").await.refusal(), (422, "idempotency_key_reused"));
        assert_eq!(upload(&host, "?currency=EUR", OLD, "").await.refusal(), (400, "idempotency_key_missing"));
        assert_eq!(upload(&host, "?currency=euro", OLD, "k").await.refusal(), (400, "bad_request"));
        assert_eq!(upload(&host, "?format=xml", OLD, "k").await.refusal(), (400, "bad_request"));
        for person in [shop.buyer("ann"), shop.person(Role::Moderator, "mo")] {
            assert_eq!(upload(&person, "", OLD, "k").await.refusal(), (403, "forbidden"));
        }
        assert_eq!(host.get("/v1/imports/imp_x").await.refusal(), (404, "not_found"));
        // A file that does not come to its end keeps its place only for as long as its connection lasts.
        assert_eq!(shop.app.import_places.available_permits(), 4);
    }
}

both! {
    async fn the_command_reports_what_it_refused(shop) {
        let file = |name: &str, text: &str| {
            let path = shop.folder().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let bad = file("bad.csv", "sku,title,price\nP,Plate,1\nQ,\"Say \"\"cheese\"\"\",x\n");
        for over_http in [true, false] {
            let (mut out, mut progress) = (Vec::new(), Vec::new());
            let code = import::run(args(&shop, bad.clone(), over_http), &mut out, &mut progress, Style::Lines).await.unwrap();
            let (out, progress) = (String::from_utf8(out).unwrap(), String::from_utf8(progress).unwrap());
            assert_eq!(code, 1, "{progress}");
            assert_eq!(out, "line,sku,reason\n3,\"Q\",\"The price is \"\"x\"\"; write a plain decimal number such as 12.50.\"\n");
            assert!(progress.contains("2 rows read") && progress.contains("1 refused") && progress.contains("rows/s"), "{progress}");
        }
        let old = file("old.csv", OLD);
        let list = file("list.json", LIST);
        for (path, over_http) in [(&old, true), (&list, false)] {
            let (mut out, mut progress) = (Vec::new(), Vec::new());
            assert_eq!(import::run(args(&shop, path.clone(), over_http), &mut out, &mut progress, Style::Lines).await.unwrap(), 0);
            assert!(out.is_empty());
        }
        assert_eq!((on_hand(&shop, "HAT-R").await, on_hand(&shop, "SOAP").await), (7, 30));
        let empty = file("empty.csv", "");
        let report = shop.folder().join("report.csv");
        for over_http in [true, false] {
            let args = Args { report: Some(report.clone()), ..args(&shop, empty.clone(), over_http) };
            assert_eq!(import::run(args, &mut Vec::new(), &mut Vec::new(), Style::Terminal).await.unwrap(), 2);
            assert_eq!(std::fs::read_to_string(&report).unwrap(), "line,sku,reason\n1,\"\",\"The file is empty.\"\n");
        }
        let none = args(&shop, shop.folder().join("nothing"), true);
        assert_eq!(import::run(none, &mut Vec::new(), &mut Vec::new(), Style::Terminal).await.unwrap(), 2);
    }
}

/// Rows of which every figure says where it comes from.
fn generated(rows: u64, price: u64) -> String {
    let row =
        |it| format!("SKU-{it},Thing number {it},Made of {it} parts that fit,{price}.{:02},{}\n", it % 100, it % 1_000);
    std::iter::once("sku,title,description,price,stock\n".to_owned()).chain((0..rows).map(row)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_that_nobody_watches_on_a_terminal_comes_in_whole_lines() {
    let server = Process::serve(Backend::Sqlite, &[]).await;
    let file = server.folder().join("catalogue.csv");
    std::fs::write(&file, generated(5_000, 1)).unwrap();
    let ended =
        server.command(&["import", file.to_str().unwrap(), "--currency", "EUR", "--server", &server.url("/")]).await;
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && !said.contains('\r'), "{said:?}");
    let last = said.lines().last().unwrap();
    assert!(said.ends_with('\n') && last.starts_with("5000 rows read: 5000 created"), "{said}");
    // One in some seconds, and the last.
    assert!(said.lines().count() <= 1 + PATIENCE.as_secs() as usize / 2, "{said}");
}

on_both!(a_job_that_died_with_its_process_says_what_it_did, a_chunk_whose_commit_was_not_heard_of_is_counted_once);

async fn a_chunk_whose_commit_was_not_heard_of_is_counted_once(backend: Backend) {
    let server = Process::serve(backend, &[("SHOWCART_FAILPOINTS", "chunk_unknown=2")]).await;
    let report = import_over_http(&server, "?currency=EUR", generated(1_000, 1)).await;
    assert_eq!((&report["state"], counts(&report)), (&json!("done"), [1_000, 1_000, 0, 0, 0]), "{report}");
}

async fn a_job_that_died_with_its_process_says_what_it_did(backend: Backend) {
    let settings = [("SHOWCART_FAILPOINTS", "import_chunk=3"), ("IMPORT_BYTES_MAX", "100000")];
    let mut server = Process::serve(backend, &settings).await;
    let too_large = upload(&server.host(), "?currency=EUR", generated(2_000, 1), "large").await;
    assert_eq!(too_large.refusal(), (413, "payload_too_large"));
    let file = generated(1_000, 1);
    let begun = upload(&server.host(), "?currency=EUR", file.clone(), "small").await.ok();
    server.restart(&[("SHOWCART_FAILPOINTS", "")]).await;
    let report = ended(&server, &begun, 2 * PATIENCE).await;
    let applied = counts(&report)[1];
    assert_eq!((&report["state"], counts(&report)), (&json!("failed"), [1_000, applied, 0, 0, 0]), "{report}");
    assert!((1..1_000).contains(&applied) && report["error"].is_string(), "{report}");
    let rest = import_over_http(&server, "?currency=EUR", file).await;
    assert_eq!(counts(&rest), [1_000, 1_000 - applied, 0, applied, 0]);
}

/// A hundred buyers a second, at most: the same load on any machine that can bear it. Each takes a unit, until `enough` of them have and `over` says so; how long each waited.
async fn holds(shop: &Shop, show: ShowId, sale: &str, enough: usize, over: &AtomicBool) -> Vec<Duration> {
    let buyers = (0..4).map(async |_| {
        let mut waits = Vec::new();
        let mut beat = tokio::time::interval(Duration::from_millis(40));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while waits.len() < enough / 4 || !over.load(Ordering::Relaxed) {
            beat.tick().await;
            let buyer = shop.buyer(&HoldId::new().to_string());
            let asked = Instant::now();
            buyer.hold(show, sale, 1).await.ok();
            waits.push(asked.elapsed());
        }
        waits
    });
    let mut waits = join_all(buyers).await.concat();
    waits.sort();
    waits
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

both! {
    alone async fn a_hundred_thousand_rows_come_in_and_ten_thousand_beside_buyers_who_buy(shop) {
        let (show, product) = shop.show_with(1_000_000).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1_000_000 })).await;
        for (rows, price, expected, buyers_buy) in [
            (100_000, 5, [100_000, 100_000, 0, 0, 0], false),
            (10_000, 6, [10_000, 0, 10_000, 0, 0], true),
        ] {
            let begun = upload(&shop.host(), "?currency=EUR", generated(rows, price), &HoldId::new().to_string()).await.ok();
            let over = AtomicBool::new(!buyers_buy);
            let import = async {
                let mut pins = Vec::new();
                for _ in 0..10 {
                    let asked = Instant::now();
                    shop.pin(show, &product).await;
                    pins.push(asked.elapsed());
                }
                let path = format!("/v1/imports/{}", begun["import_id"].as_str().unwrap());
                let mut report = json!({ "state": "running" });
                // As the command does it: not faster than a person can read.
                let mut look = tokio::time::interval(Duration::from_millis(200));
                while report["state"] == "running" {
                    look.tick().await;
                    report = shop.host().get(&path).await.ok();
                }
                over.store(true, Ordering::Relaxed);
                (report, median(pins))
            };
            let began = Instant::now();
            // Each of these holds is answered with a grant, whatever the import does meanwhile.
            let together = async { tokio::join!(import, holds(&shop, show, &sale, if buyers_buy { 400 } else { 4 }, &over)) };
            let ((report, pin), waits) = tokio::time::timeout(20 * PATIENCE, together).await.expect("an import ends");
            assert_eq!((&report["state"], counts(&report)), (&json!("done"), expected), "{report}");
            println!("{rows} rows in {:?}; p99 of {} holds {:?}, median pin {pin:?}", began.elapsed(), waits.len(), p99(&waits));
            assert!(pin < Duration::from_millis(250), "a pin beside an import takes {pin:?}");
        }
    }
}
