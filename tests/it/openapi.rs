//! The API's document says what the server does: its routes, who may call them, its codes, what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use showcart::auth::Role;
use showcart::error::Code;
use showcart::ids::{OverlayId, PollId, ShowId};
use showcart::openapi::DOCUMENT;

use crate::harness::{Backend, PATIENCE, Process, Shop, both, confirm};
use crate::tidy;

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("the document is JSON")
}

struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    says: &'a Value,
}

impl Operation<'_> {
    fn needs_token(&self) -> bool {
        self.says["security"].as_array().is_none_or(|it| !it.is_empty() && !it.contains(&json!({})))
    }

    fn roles(&self) -> Option<BTreeSet<&str>> {
        Some(self.says["x-roles"].as_array()?.iter().map(|it| it.as_str().expect("a role")).collect())
    }

    fn example(&self) -> Option<&Value> {
        self.says["requestBody"]["content"].as_object()?.values().find_map(|it| it.get("example"))
    }

    /// A path to call; what `ids` does not name is one that nothing has.
    fn with(&self, ids: &BTreeMap<&str, String>) -> String {
        let part = |it: &str| match it.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            Some(name) => ids.get(name).cloned().unwrap_or_else(|| "unknown".into()),
            None => it.to_owned(),
        };
        self.path.split('/').map(part).collect::<Vec<_>>().join("/")
    }
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, says) in methods.as_object().expect("methods") {
            found.push(Operation { path, method, says });
        }
    }
    found
}

fn operation<'a>(document: &'a Value, id: &str) -> Operation<'a> {
    operations(document).into_iter().find(|it| it.says["operationId"] == id).unwrap_or_else(|| panic!("no {id}"))
}

// ---- The routes ------------------------------------------------------------------------------------------------------

/// Up to the bracket that closes the one before it.
fn argument(text: &str) -> &str {
    let mut open = 1;
    for (at, c) in text.char_indices() {
        open += i32::from(c == '(') - i32::from(c == ')');
        if open == 0 {
            return &text[..at];
        }
    }
    panic!("a bracket without an end: {text}")
}

fn routes_of_the_source() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (path, text) in tidy::sources() {
        // The sandbox is the payment provider's server, not the shop's.
        if path.starts_with(Path::new("payment/sandbox")) {
            continue;
        }
        for rest in text.split(".route(").skip(1) {
            let (route, handlers) = argument(rest).split_once(',').expect("a path and its handlers");
            let route = match route.trim().strip_prefix('"') {
                Some(literal) => literal.trim_end_matches('"').to_owned(),
                None => {
                    let declared = format!("const {}: &str = \"", route.trim());
                    let value = text.split_once(&declared).expect("the path is a constant of the same file").1;
                    value.split('"').next().expect("a text ends").to_owned()
                }
            };
            let known: Vec<String> = handlers
                .split(|it: char| !it.is_alphanumeric() && it != '_' && it != '(')
                .filter_map(|it| it.split_once('('))
                .map(|(method, _)| method.to_owned())
                .collect();
            assert!(!known.is_empty() && known.iter().all(|it| METHODS.contains(&&**it)), "{route}: {handlers}");
            found.extend(known.into_iter().map(|method| (route.clone(), method)));
        }
    }
    found
}

#[test]
fn the_document_has_every_route_with_exactly_its_methods() {
    let document = document();
    let said: BTreeSet<(String, String)> =
        operations(&document).iter().map(|it| (it.path.to_owned(), it.method.to_owned())).collect();
    let are = routes_of_the_source();
    assert!(are.len() > 50, "the source was not understood: {are:?}");
    let missing: Vec<_> = are.difference(&said).collect();
    let invented: Vec<_> = said.difference(&are).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing: {missing:?}\ninvented: {invented:?}");
}

// ---- The document ----------------------------------------------------------------------------------------------------

/// What stands at a reference.
pub(crate) fn resolve<'a>(document: &'a Value, it: &'a Value) -> &'a Value {
    match it["$ref"].as_str() {
        None => it,
        Some(reference) => {
            let target = reference.strip_prefix('#').and_then(|it| document.pointer(it));
            resolve(document, target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
        }
    }
}

pub(crate) fn walk<'a>(it: &'a Value, see: &mut dyn FnMut(&'a Value)) {
    see(it);
    match it {
        Value::Object(members) => members.values().for_each(|it| walk(it, see)),
        Value::Array(items) => items.iter().for_each(|it| walk(it, see)),
        _ => {}
    }
}

#[test]
fn the_document_holds_together() {
    let document = document();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    walk(&document, &mut |it| {
        resolve(&document, it);
    });
    let operations = operations(&document);
    let ids: BTreeSet<&str> =
        operations.iter().map(|it| it.says["operationId"].as_str().expect("every operation has an id")).collect();
    assert_eq!(ids.len(), operations.len());
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    for it in &operations {
        let id = &it.says["operationId"];
        let own = it.says["tags"].as_array().unwrap();
        assert!(own.len() == 1 && tags.contains(own[0].as_str().unwrap()), "{id}: {own:?}");
        let parameters: Vec<&Value> =
            it.says["parameters"].as_array().into_iter().flatten().map(|it| resolve(&document, it)).collect();
        let named: BTreeSet<&str> =
            parameters.iter().filter(|it| it["in"] == "path").map(|it| it["name"].as_str().unwrap()).collect();
        let in_path: BTreeSet<&str> =
            it.path.split('/').filter_map(|it| it.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(named, in_path, "{id}");
    }
}

#[test]
fn the_codes_are_the_server_s_and_stand_with_their_status() {
    let document = document();
    let said: Vec<&str> = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(said, Code::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>());
    for it in operations(&document) {
        let id = &it.says["operationId"];
        for (status, answer) in it.says["responses"].as_object().unwrap() {
            let description = resolve(&document, answer)["description"].as_str().unwrap();
            let codes = description.split('`').skip(1).step_by(2);
            for code in codes.filter(|_| status.starts_with(['4', '5'])) {
                let known = Code::ALL.iter().find(|it| it.as_str() == code);
                let known = known.unwrap_or_else(|| panic!("{id}: there is no code {code}"));
                assert_eq!(known.status().as_str(), status, "{id}: {code}");
            }
        }
    }
}

#[test]
fn the_examples_are_what_the_schemas_ask_for() {
    let document = document();
    let mut count = 0;
    walk(&document["paths"], &mut |it| {
        if let (Some(schema), Some(example)) = (it.get("schema"), it.get("example")) {
            count += 1;
            assert_eq!(wrong(&document, schema, example, "example"), Vec::<String>::new());
        }
    });
    assert!(count > 10);
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let document = document();
    let show = json!({ "$ref": "#/components/schemas/NewShow" });
    for (given, found) in [
        (json!({ "title": "Autumn", "currency": "EUR" }), 0),
        (json!({ "title": "Autumn" }), 1),
        (json!({ "title": 7, "currency": "eur" }), 2),
        (json!({ "title": "Autumn", "currency": "EURO", "colour": "red" }), 2),
        (json!([]), 1),
    ] {
        assert_eq!(wrong(&document, &show, &given, "show").len(), found, "{given}");
    }
    let id = json!({ "$ref": "#/components/schemas/ShowId" });
    for (given, found) in [
        (json!(ShowId::new()), 0),
        (json!(PollId::new()), 1),
        (json!("shw_1"), 1),
        (json!(format!("{}0", ShowId::new())), 1),
    ] {
        assert_eq!(wrong(&document, &id, &given, "id").len(), found, "{given}");
    }
}

// ---- Schemas ---------------------------------------------------------------------------------------------------------

/// What a value has that its schema does not list, lacks that it asks for, or says otherwise.
pub(crate) fn wrong(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let schema = resolve(document, schema);
    for (word, most) in [("anyOf", usize::MAX), ("oneOf", 1)] {
        let Some(all) = schema[word].as_array() else { continue };
        let fit = all.iter().filter(|it| wrong(document, it, value, place).is_empty()).count();
        let fits = (1..=most).contains(&fit);
        return if fits { Vec::new() } else { vec![format!("{place}: {value} is {fit} of {word} {all:?}")] };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|it| is(it, value)) {
        return vec![format!("{place}: {value} is no {types:?}")];
    }
    let mut found = Vec::new();
    if schema.get("const").is_some_and(|it| it != value) {
        found.push(format!("{place}: {value} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|it| !it.contains(value)) {
        found.push(format!("{place}: {value} is none of {}", schema["enum"]));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !matches(pattern, text)
    {
        found.push(format!("{place}: {text} is not of the form {pattern}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let schema = schema["prefixItems"].get(index).unwrap_or(&schema["items"]);
        if *schema == json!(false) {
            found.push(format!("{place}[{index}] is not listed"));
        }
        found.extend(wrong(document, schema, item, &format!("{place}[{index}]")));
    }
    let (listed, patterns) = (schema["properties"].as_object(), schema["patternProperties"].as_object());
    if let Some(members) = value.as_object().filter(|_| listed.is_some() || patterns.is_some()) {
        for needed in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(needed) {
                found.push(format!("{place}: {needed} is missing"));
            }
        }
        for (name, member) in members {
            let by_pattern = || patterns?.iter().find(|(it, _)| matches(it, name)).map(|(_, schema)| schema);
            match listed.and_then(|it| it.get(name)).or_else(by_pattern) {
                Some(schema) => found.extend(wrong(document, schema, member, &format!("{place}.{name}"))),
                None => found.push(format!("{place}: {name} is not listed")),
            }
        }
    }
    found
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the document uses the type {other}, which this checker does not know"),
    }
}

/// The one form that the document uses: `^prefix[a-z]{32}$`.
fn matches(pattern: &str, text: &str) -> bool {
    let parts = || {
        let (prefix, rest) = pattern.strip_prefix('^')?.strip_suffix("}$")?.split_once('[')?;
        let (class, count) = rest.split_once("]{")?;
        Some((prefix, class, count.parse::<usize>().ok()?))
    };
    let (prefix, class, count) = parts().unwrap_or_else(|| panic!("a pattern of another form: {pattern}"));
    let ranges: Vec<&[u8]> = class.as_bytes().split(|it| *it == b'-').collect();
    // `0-9a-f` splits into `0`, `9a`, `f`.
    let allowed = |it: u8| {
        ranges.windows(2).any(|pair| (*pair[0].last().expect("a range has a start")..=pair[1][0]).contains(&it))
    };
    text.strip_prefix(prefix).is_some_and(|it| it.len() == count && it.bytes().all(allowed))
}

/// Asserts that an answer is what an operation's schema says of this status.
fn check(document: &Value, id: &str, status: u16, body: &Value) {
    let answers = &operation(document, id).says["responses"];
    let answer = answers.get(status.to_string()).unwrap_or_else(|| panic!("{id} does not name {status}: {body}"));
    let kinds = resolve(document, answer)["content"].as_object().expect("an answer with a body");
    let schema = &kinds.values().next().expect("one kind")["schema"];
    assert_eq!(wrong(document, schema, body, id), Vec::<String>::new(), "{body}");
}

// ---- Real answers ----------------------------------------------------------------------------------------------------

/// Calls an operation as somebody and checks the answer; the body of it.
async fn call(shop: &Shop, who: (Role, &str), id: &str, ids: &BTreeMap<&str, String>, body: Option<Value>) -> Value {
    let document = document();
    let operation = operation(&document, id);
    let path = operation.with(ids);
    let body = body.or_else(|| operation.example().cloned());
    let person = shop.person(who.0, who.1);
    let answer = match operation.method {
        "get" => person.get(&path).await,
        "delete" => person.delete(&path).await,
        "put" => person.put(&path, body.expect("an example")).await,
        _ => person.post(&path, body.expect("an example")).await,
    };
    check(&document, id, answer.status, &answer.body);
    answer.body
}

const HANNA: (Role, &str) = (Role::Host, "hanna");
const ANN: (Role, &str) = (Role::Viewer, "ann");

both! {
    async fn real_answers_are_what_the_document_says(shop) {
        let mut ids = BTreeMap::new();
        let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_else(|| panic!("{name} in {it}")).to_owned();

        let show = call(&shop, HANNA, "createShow", &ids, None).await;
        ids.insert("show_id", text(&show, "show_id"));
        assert_eq!(call(&shop, HANNA, "startShow", &ids, None).await["state"], "live");
        ids.insert("sku", "LAMP-1".into());
        let product = call(&shop, HANNA, "writeProduct", &ids, None).await;
        ids.insert("product_id", text(&product, "product_id"));
        call(&shop, HANNA, "writeListing", &ids, None).await;
        let pin = json!({ "product_id": product["product_id"] });
        assert!(call(&shop, HANNA, "pin", &ids, Some(pin)).await["pin"].is_object());
        let terms = json!({ "product_id": product["product_id"], "percent_off": 20, "cap": 1 });
        let sale = call(&shop, HANNA, "armSale", &ids, Some(terms)).await;
        ids.insert("sale_id", text(&sale, "sale_id"));

        let wish = json!({ "lines": [{ "sale_id": sale["sale_id"], "quantity": 1 }], "seen": { "price_minor": 2_000 } });
        let hold = call(&shop, ANN, "hold", &ids, Some(wish.clone())).await;
        ids.insert("hold_id", text(&hold, "hold_id"));
        let late = call(&shop, (Role::Viewer, "bea"), "hold", &ids, Some(wish)).await;
        assert_eq!(late["code"], "all_held");
        let order = call(&shop, ANN, "beginPayment", &ids, Some(json!({ "hold_id": hold["hold_id"] }))).await;
        ids.insert("order_id", text(&order, "order_id"));
        confirm(&order, "tok_success").await.ok();
        shop.buyer("ann").until_order(&order, "paid").await;
        let refund = call(&shop, HANNA, "refund", &ids, Some(json!({ "amount_minor": 500 }))).await;
        assert_eq!(refund["state"], "requested");

        let banner = call(&shop, HANNA, "showBanner", &ids, None).await;
        ids.insert("overlay_id", text(&banner, "overlay_id"));
        call(&shop, HANNA, "hideBanner", &ids, None).await;
        let timer = call(&shop, HANNA, "startTimer", &ids, None).await;
        ids.insert("overlay_id", text(&timer, "overlay_id"));
        call(&shop, HANNA, "extendTimer", &ids, None).await;
        call(&shop, HANNA, "stopTimer", &ids, None).await;
        let poll = call(&shop, HANNA, "openPoll", &ids, None).await;
        ids.insert("poll_id", text(&poll, "poll_id"));
        call(&shop, ANN, "vote", &ids, None).await;
        let again = call(&shop, ANN, "vote", &ids, Some(json!({ "choice": 1 }))).await;
        assert_eq!((&again["code"], &again["choice"]), (&json!("already_voted"), &json!(0)));
        call(&shop, HANNA, "closePoll", &ids, None).await;
        assert_eq!(call(&shop, HANNA, "closePoll", &ids, None).await["code"], "poll_closed");

        for id in ["listShows", "readShow", "listProducts", "readProduct", "listLineup", "listSales", "readHold", "readOrder",
                   "listOrders", "listRefunds", "listWaiting", "listActions", "readTimeline", "readPin", "listBanners", "listTimers", "listPolls"] {
            call(&shop, HANNA, id, &ids, None).await;
        }
        assert_eq!(call(&shop, ANN, "listMyOrders", &ids, None).await["items"][0]["state"], "paid");

        let csv = "Handle,Title,Variant SKU,Variant Price\nvase,The vase,VASE-1,19.90\nbowl,The bowl,BOWL-1,free\n";
        let sent = shop.host().request(Method::POST, "/v1/imports?currency=EUR&format=csv").header("idempotency-key", "monday");
        let begun: Value = sent.body(csv).send().await.unwrap().json().await.unwrap();
        check(&document(), "beginImport", 202, &begun);
        ids.insert("import_id", text(&begun, "import_id"));
        let done = async {
            loop {
                let import = call(&shop, HANNA, "readImport", &ids, None).await;
                if import["state"] != "running" {
                    return import;
                }
            }
        };
        let import = tokio::time::timeout(PATIENCE, done).await.expect("two rows are soon read");
        assert_eq!((&import["created"], &import["refused"]), (&json!(1), &json!(1)), "{import}");

        // An address at which nobody is.
        let nowhere = json!({ "url": "http://127.0.0.1:9/hooks", "types": ["show.ended"] });
        let webhook = call(&shop, HANNA, "createWebhook", &ids, Some(nowhere.clone())).await;
        ids.insert("webhook_id", text(&webhook, "webhook_id"));
        assert_eq!(call(&shop, HANNA, "testWebhook", &ids, None).await["state"], "failed");
        assert!(call(&shop, HANNA, "rotateWebhook", &ids, None).await["secret"].is_string());
        call(&shop, HANNA, "writeWebhook", &ids, Some(nowhere)).await;
        let part = json!({ "show_id": ids["show_id"], "after": 0, "upto": 2 });
        call(&shop, HANNA, "redeliver", &ids, Some(part)).await;
        for id in ["listWebhooks", "readWebhook", "listDeliveries"] {
            call(&shop, HANNA, id, &ids, None).await;
        }

        // The sale is sold out, the refund is accepted, the show ends: every kind of event but the failures.
        let refunds = async { while call(&shop, HANNA, "listRefunds", &ids, None).await[0]["state"] != "accepted" {} };
        tokio::time::timeout(PATIENCE, refunds).await.expect("the sandbox accepts");
        call(&shop, HANNA, "endSale", &ids, Some(json!({}))).await;
        assert_eq!(call(&shop, HANNA, "endShow", &ids, None).await["state"], "ended");
        let lines = shop.host().get(&operation(&document(), "exportEvents").with(&ids)).await.ok();
        let mut kinds = BTreeSet::new();
        for line in lines.as_str().expect("lines").lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            check(&document(), "exportEvents", 200, &event);
            kinds.insert(text(&event, "type"));
        }
        for kind in ["show.started", "sale.started", "order.paid", "sale.sold_out", "order.refunded", "show.ended"] {
            assert!(kinds.contains(kind), "{kind} in {kinds:?}");
        }
    }
}

both! {
    async fn routes_need_a_token_where_the_document_says_so(shop) {
        let document = document();
        for it in operations(&document) {
            let method = it.method.to_uppercase().parse().unwrap();
            let answer = shop.nobody().request(method, &it.with(&BTreeMap::new())).send().await.unwrap();
            assert_eq!(answer.status() == 401, it.needs_token(), "{} {}: {}", it.method, it.path, answer.status());
        }
    }
}

both! {
    async fn roles_may_do_what_the_document_says_and_nothing_else(shop) {
        let document = document();
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        let hold = shop.buyer("ann").hold(show, &sale, 1).await.ok();
        let order = shop.buyer("ann").pay(&hold).await;
        let ids = BTreeMap::from([
            ("show_id", show.to_string()),
            ("product_id", product),
            ("sale_id", sale),
            ("sku", "lamp".into()),
            ("hold_id", hold["hold_id"].as_str().unwrap().into()),
            ("order_id", order["order_id"].as_str().unwrap().into()),
            ("poll_id", PollId::new().to_string()),
            ("overlay_id", OverlayId::new().to_string()),
            ("import_id", showcart::ids::ImportId::new().to_string()),
            ("webhook_id", showcart::ids::WebhookId::new().to_string()),
        ]);
        for it in operations(&document) {
            let Some(allowed) = it.roles() else { continue };
            for role in [Role::Host, Role::Moderator, Role::Analyst, Role::Service, Role::Guest, Role::Viewer] {
                let method = it.method.to_uppercase().parse().unwrap();
                let mut request = shop.person(role, "ann").request(method, &it.with(&ids));
                if it.method == "post" {
                    request = request.header("idempotency-key", format!("{role} {}", it.path));
                }
                let mut example = it.example().cloned();
                if it.says["operationId"] == "beginPayment" {
                    example = Some(json!({ "hold_id": hold["hold_id"] }));
                }
                if it.says["operationId"] == "createWebhook" || it.says["operationId"] == "writeWebhook" {
                    // Nobody is asked where a name leads.
                    example = Some(json!({ "url": "http://127.0.0.1:9/hooks" }));
                }
                if let Some(body) = &example {
                    request = request.json(body);
                }
                let answer = request.send().await.unwrap();
                let status = answer.status().as_u16();
                // A stream has no end, and it was let in.
                let code = if status == 200 { Value::Null } else { answer.json::<Value>().await.unwrap_or_default()["code"].clone() };
                let what = format!("{} {} as a {role}: {status} {code}", it.method, it.path);
                if allowed.contains(role.as_str()) {
                    assert!(code != "forbidden" && status != 401, "{what}");
                } else {
                    // What somebody may not see is not there for them.
                    assert!(code == "forbidden" || (it.method == "get" && code == "not_found"), "{what}");
                }
            }
        }
    }
}

both! {
    async fn the_page_of_the_document_comes_with_a_strict_policy(shop) {
        for (path, kind) in [("/docs", "text/html"), ("/docs.js", "text/javascript"), ("/docs.css", "text/css"), ("/openapi.json", "application/json"), ("/socket.schema.json", "application/schema+json")] {
            let response = reqwest::get(shop.url(path)).await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(response.headers()["content-type"].to_str().unwrap().starts_with(kind));
            let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
            assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        }
        assert_eq!(shop.get("/openapi.json").await.ok(), document());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_prints_what_the_server_serves() {
    let server = Process::serve(Backend::Sqlite, &[]).await;
    let printed = server.command(&["openapi"]).await;
    assert!(printed.status.success());
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), DOCUMENT);
}
