//! One batch in memory: what it needs is loaded, each operation is decided and noted, and the changes are stored.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{ENDPOINTS_MAX, NewIntent, NewRefund, Operation, Reversal, Target, back_off, endpoint_names, same};
use crate::clock::Millis;
use crate::db::{self, Tx, query};
use crate::payment::sandbox::faults::Faults;
use crate::payment::sandbox::rules::{self, Intent, Refund, Step, Verdict};
use crate::payment::sandbox::wire::{Answer, IntentView, NOTICE, RefundView, text, why};
use crate::payment::signature::hex;
use crate::payment::{IntentStatus, RefundStatus};

/// What a batch has loaded, and what it changes.
pub(super) struct Page {
    now: Millis,
    intents: HashMap<String, Intent>,
    refunds: HashMap<String, Refund>,
    kept: HashMap<String, Kept>,
    endpoints: Vec<String>,

    changed_intents: BTreeSet<String>,
    changed_refunds: BTreeSet<String>,
    new_answers: Vec<String>,
    new_events: Vec<EventRow>,
    new_deliveries: Vec<DeliveryRow>,
    pub(super) registered: Vec<(String, String, String)>,
    delivered: Vec<Delivered>,
    postponed: Vec<Postponed>,
    /// Lines of which the last event has come.
    released: Vec<String>,
    pub(super) failing: Vec<String>,
    pub(super) wakes_deliverers: bool,
}

/// The first answer to a key.
struct Kept {
    fingerprint: String,
    answer: Answer,
}

#[derive(Serialize)]
struct EventRow {
    event_id: String,
    body: String,
}

#[derive(Serialize)]
struct DeliveryRow {
    delivery_id: String,
    event_id: String,
    endpoint: String,
    due_at: Option<Millis>,
    line: Option<String>,
    place: i64,
}

#[derive(Serialize)]
struct Delivered {
    delivery_id: String,
}

#[derive(Serialize)]
struct Postponed {
    delivery_id: String,
    attempts: i64,
    due_at: Millis,
}

impl Page {
    pub(super) async fn load(tx: &mut Tx, operations: &[Operation]) -> db::Result<Page> {
        let now = tx.now().await?;
        let mut keys = BTreeSet::new();
        let mut intent_ids = BTreeSet::new();
        let mut refund_ids = BTreeSet::new();
        for operation in operations {
            match operation {
                Operation::Create { key, .. } => _ = keys.insert(key.as_str()),
                Operation::Step { intent_id, .. } => _ = intent_ids.insert(intent_id.as_str()),
                Operation::Refund { key, new } => {
                    keys.insert(key);
                    intent_ids.insert(&new.payment_intent);
                }
                Operation::FailRefund { refund_id } => _ = refund_ids.insert(refund_id.as_str()),
                _ => {}
            }
        }
        let refunds = load_refunds(tx, &refund_ids).await?;
        intent_ids.extend(refunds.values().map(|it| it.intent_id.as_str()));
        let intents = load_intents(tx, &intent_ids).await?;
        let kept = load_answers(tx, &keys).await?;
        let endpoints = endpoint_names(tx).await?;
        Ok(Page {
            now,
            intents,
            refunds,
            kept,
            endpoints,
            changed_intents: BTreeSet::new(),
            changed_refunds: BTreeSet::new(),
            new_answers: Vec::new(),
            new_events: Vec::new(),
            new_deliveries: Vec::new(),
            registered: Vec::new(),
            delivered: Vec::new(),
            postponed: Vec::new(),
            released: Vec::new(),
            failing: Vec::new(),
            wakes_deliverers: false,
        })
    }

    pub(super) fn apply(
        &mut self,
        operation: &Operation,
        faults: &mut Faults,
        reversal: &mut Option<Reversal>,
    ) -> Answer {
        match operation {
            Operation::Create { key, new } => self.once(key, "payment_intents", new, |page| page.create(new)),
            Operation::Step { intent_id, client_secret, step } => {
                self.step(intent_id, client_secret.as_deref(), *step, faults, reversal)
            }
            Operation::Refund { key, new } => self.once(key, "refunds", new, |page| page.refund(new, faults, reversal)),
            Operation::FailRefund { refund_id } => self.fail_refund(refund_id, faults, reversal),
            Operation::Register { name, target } => self.register(name, target),
            Operation::SetFaults(new) => {
                *faults = new.clone();
                self.released.extend(reversal.take().map(|it| it.line));
                self.wakes_deliverers = true;
                done()
            }
            Operation::Delivered { delivery_id } => {
                self.delivered.push(Delivered { delivery_id: delivery_id.clone() });
                done()
            }
            Operation::NotDelivered { delivery_id, attempts } => {
                let due_at = self.now + back_off(*attempts);
                self.postponed.push(Postponed { delivery_id: delivery_id.clone(), attempts: *attempts, due_at });
                done()
            }
        }
    }

    /// Runs `operation` for the first request with this key; the others get its answer.
    fn once(
        &mut self,
        key: &str,
        endpoint: &str,
        request: &impl Serialize,
        operation: impl FnOnce(&mut Page) -> Answer,
    ) -> Answer {
        let fingerprint = hex(&Sha256::digest(format!("{endpoint} {}", text(request))));
        if let Some(kept) = self.kept.get(key) {
            return match kept.fingerprint == fingerprint {
                true => kept.answer.clone(),
                false => Answer::refused(422, "idempotency_key_reused", "The key was used for another request."),
            };
        }
        let answer = operation(self);
        self.kept.insert(key.to_owned(), Kept { fingerprint, answer: answer.clone() });
        self.new_answers.push(key.to_owned());
        answer
    }

    fn create(&mut self, new: &NewIntent) -> Answer {
        let intent_id = format!("pi_{}", Uuid::now_v7().simple());
        let intent = Intent {
            client_secret: format!("{intent_id}_secret_{}", Uuid::new_v4().simple()),
            intent_id: intent_id.clone(),
            status: IntentStatus::RequiresPaymentMethod,
            amount_minor: new.amount_minor,
            received_minor: 0,
            refunded_minor: 0,
            currency: new.currency.to_string(),
            metadata: text(&new.metadata),
            last_error: None,
            created_at: self.now,
        };
        let answer = Answer::ok(&IntentView::of(&intent));
        self.changed_intents.insert(intent_id.clone());
        self.intents.insert(intent_id, intent);
        answer
    }

    fn step(
        &mut self,
        intent_id: &str,
        client_secret: Option<&str>,
        step: Step,
        faults: &mut Faults,
        reversal: &mut Option<Reversal>,
    ) -> Answer {
        let known = self.intents.get_mut(intent_id);
        let Some(intent) = known.filter(|it| client_secret.is_none_or(|secret| same(secret, &it.client_secret))) else {
            return no_such_intent();
        };
        let (event, answer) = match intent.take(step) {
            Verdict::Moved(event) => (event, Answer::ok(&IntentView::of(intent))),
            Verdict::Declined => {
                let code = intent.last_error.as_deref().unwrap_or_default();
                (rules::FAILED, Answer::refused_for(402, code, why(code), intent))
            }
            Verdict::Stays => return Answer::ok(&IntentView::of(intent)),
            Verdict::Refused(code) => return Answer::refused_for(409, code, why(code), intent),
        };
        let object = text(&IntentView::without_secret(intent));
        self.changed_intents.insert(intent_id.to_owned());
        self.event(event, &object, faults, reversal);
        answer
    }

    fn refund(&mut self, new: &NewRefund, faults: &mut Faults, reversal: &mut Option<Reversal>) -> Answer {
        let Some(intent) = self.intents.get_mut(&new.payment_intent) else { return no_such_intent() };
        if let Err(code) = intent.refund(new.amount_minor) {
            return Answer::refused_for(409, code, why(code), intent);
        }
        let fails = faults.refund_fails();
        let refund = Refund {
            refund_id: format!("re_{}", Uuid::now_v7().simple()),
            intent_id: intent.intent_id.clone(),
            amount_minor: new.amount_minor,
            status: if fails { RefundStatus::Pending } else { RefundStatus::Succeeded },
            metadata: text(&new.metadata),
            created_at: self.now,
        };
        let view = text(&RefundView::of(&refund));
        self.changed_intents.insert(refund.intent_id.clone());
        self.changed_refunds.insert(refund.refund_id.clone());
        if fails {
            self.failing.push(refund.refund_id.clone());
        } else {
            self.event("refund.succeeded", &view, faults, reversal);
        }
        self.refunds.insert(refund.refund_id.clone(), refund);
        Answer { status: 200, body: view }
    }

    /// Gives the amount of a pending refund back to the intent.
    fn fail_refund(&mut self, refund_id: &str, faults: &mut Faults, reversal: &mut Option<Reversal>) -> Answer {
        let pending = self.refunds.get_mut(refund_id).filter(|it| it.status == RefundStatus::Pending);
        let Some(refund) = pending else { return done() };
        let Some(intent) = self.intents.get_mut(&refund.intent_id) else { return done() };
        refund.status = RefundStatus::Failed;
        intent.refunded_minor -= refund.amount_minor;
        let view = text(&RefundView::of(refund));
        self.changed_intents.insert(intent.intent_id.clone());
        self.changed_refunds.insert(refund_id.to_owned());
        self.event("refund.failed", &view, faults, reversal);
        done()
    }

    fn register(&mut self, name: &str, target: &Target) -> Answer {
        if !self.endpoints.iter().any(|it| it == name) {
            if self.endpoints.len() >= ENDPOINTS_MAX {
                return Answer::refused(409, "too_many_endpoints", "Sixteen endpoints are registered.");
            }
            self.endpoints.push(name.to_owned());
        }
        self.registered.push((name.to_owned(), target.url.clone(), target.secret.clone()));
        self.wakes_deliverers = true;
        Answer::ok(&json!({ "name": name, "url": target.url, "sandbox": NOTICE }))
    }

    /// Writes an event and sends it on its way to every endpoint there is.
    fn event(&mut self, kind: &str, object: &str, faults: &mut Faults, reversal: &mut Option<Reversal>) {
        let event_id = format!("evt_{}", Uuid::now_v7().simple());
        // Put together as text: the object has been written already.
        let body = format!(
            r#"{{"id":"{event_id}","type":"{kind}","created_at":{},"data":{{"object":{object}}},"sandbox":"{NOTICE}"}}"#,
            self.now
        );
        self.new_events.push(EventRow { event_id: event_id.clone(), body });
        let journey = faults.journey();
        for _ in 0..journey.copies {
            let line = journey.held.map(|_| {
                let fresh = || Reversal { line: Uuid::now_v7().simple().to_string(), next_place: 0 };
                let reversal = reversal.get_or_insert_with(fresh);
                reversal.next_place -= 1;
                (reversal.line.clone(), reversal.next_place)
            });
            for endpoint in &self.endpoints {
                let due_at = Millis(self.now.0 + journey.delay_ms);
                self.new_deliveries.push(DeliveryRow {
                    delivery_id: format!("dlv_{}", Uuid::now_v7().simple()),
                    event_id: event_id.clone(),
                    endpoint: endpoint.clone(),
                    due_at: line.is_none().then_some(due_at),
                    line: line.as_ref().map(|it| it.0.clone()),
                    place: line.as_ref().map_or(0, |it| it.1),
                });
            }
        }
        if journey.held == Some(0) {
            self.released.extend(reversal.take().map(|it| it.line));
        }
        self.wakes_deliverers = true;
    }

    pub(super) async fn store(&mut self, tx: &mut Tx) -> db::Result<()> {
        let intents: Vec<_> = self.changed_intents.iter().filter_map(|it| self.intents.get(it)).collect();
        if !intents.is_empty() {
            query(
                "insert into intent (intent_id, client_secret, status, amount_minor, received_minor, refunded_minor, \
                 currency, metadata, last_error, created_at) select value->>'intent_id', value->>'client_secret', \
                 value->>'status', cast(value->>'amount_minor' as bigint), cast(value->>'received_minor' as bigint), \
                 cast(value->>'refunded_minor' as bigint), value->>'currency', value->>'metadata', value->>'last_error', \
                 cast(value->>'created_at' as bigint) from json_each($1) where true \
                 on conflict (intent_id) do update set status = excluded.status, \
                 received_minor = excluded.received_minor, refunded_minor = excluded.refunded_minor, \
                 last_error = excluded.last_error",
            )
            .bind_json(&intents)
            .run(tx)
            .await?;
        }
        let refunds: Vec<_> = self.changed_refunds.iter().filter_map(|it| self.refunds.get(it)).collect();
        if !refunds.is_empty() {
            query(
                "insert into refund (refund_id, intent_id, amount_minor, status, metadata, created_at) \
                 select value->>'refund_id', value->>'intent_id', cast(value->>'amount_minor' as bigint), \
                 value->>'status', value->>'metadata', cast(value->>'created_at' as bigint) \
                 from json_each($1) where true \
                 on conflict (refund_id) do update set status = excluded.status",
            )
            .bind_json(&refunds)
            .run(tx)
            .await?;
        }
        let answers: Vec<_> = self.new_answers.iter().filter_map(|key| Some((key, self.kept.get(key)?))).collect();
        if !answers.is_empty() {
            let row = |(key, it): &(&String, &Kept)| json!({ "key": key, "fingerprint": it.fingerprint, "status": it.answer.status, "body": it.answer.body });
            query(
                "insert into answer (key, fingerprint, status, body) select value->>'key', value->>'fingerprint', \
                 cast(value->>'status' as bigint), value->>'body' from json_each($1)",
            )
            .bind_json(&answers.iter().map(row).collect::<Vec<_>>())
            .run(tx)
            .await?;
        }
        self.store_endpoints(tx).await?;
        self.store_deliveries(tx).await
    }

    async fn store_endpoints(&self, tx: &mut Tx) -> db::Result<()> {
        for (name, url, secret) in &self.registered {
            query(
                "insert into endpoint (name, url, secret) values ($1, $2, $3) \
                 on conflict (name) do update set url = excluded.url, secret = excluded.secret",
            )
            .bind(name.as_str())
            .bind(url.as_str())
            .bind(secret.as_str())
            .run(tx)
            .await?;
            // Somebody is there again: what was tried in vain is tried at once.
            query("update delivery set due_at = $2, attempts = 0 where endpoint = $1 and attempts > 0 and due_at > $2")
                .bind(name.as_str())
                .bind(self.now)
                .run(tx)
                .await?;
        }
        Ok(())
    }

    async fn store_deliveries(&self, tx: &mut Tx) -> db::Result<()> {
        if !self.new_events.is_empty() {
            query(
                "insert into event (event_id, body, created_at) select value->>'event_id', value->>'body', \
                 cast($2 as bigint) from json_each($1)",
            )
            .bind_json(&self.new_events)
            .bind(self.now)
            .run(tx)
            .await?;
        }
        if !self.new_deliveries.is_empty() {
            query(
                "insert into delivery (delivery_id, event_id, endpoint, attempts, due_at, line, place) \
                 select value->>'delivery_id', value->>'event_id', value->>'endpoint', 0, \
                 cast(value->>'due_at' as bigint), value->>'line', cast(value->>'place' as bigint) from json_each($1)",
            )
            .bind_json(&self.new_deliveries)
            .run(tx)
            .await?;
        }
        for line in &self.released {
            query("update delivery set due_at = $2 where line = $1 and due_at is null")
                .bind(line.as_str())
                .bind(self.now)
                .run(tx)
                .await?;
        }
        if !self.delivered.is_empty() {
            query("delete from delivery where delivery_id in (select value->>'delivery_id' from json_each($1))")
                .bind_json(&self.delivered)
                .run(tx)
                .await?;
        }
        if !self.postponed.is_empty() {
            query(
                "update delivery set attempts = cast(j.value->>'attempts' as bigint), \
                 due_at = cast(j.value->>'due_at' as bigint) from json_each($1) as j \
                 where delivery_id = j.value->>'delivery_id'",
            )
            .bind_json(&self.postponed)
            .run(tx)
            .await?;
        }
        Ok(())
    }
}

fn done() -> Answer {
    Answer::ok(&json!({ "sandbox": NOTICE }))
}

fn no_such_intent() -> Answer {
    Answer::refused(404, "not_found", "There is no such intent, or the client_secret is not its own.")
}

#[derive(Serialize)]
struct Id<'a> {
    id: &'a str,
}

fn ids<'a>(all: &BTreeSet<&'a str>) -> Vec<Id<'a>> {
    all.iter().map(|id| Id { id }).collect()
}

async fn load_intents(tx: &mut Tx, intent_ids: &BTreeSet<&str>) -> db::Result<HashMap<String, Intent>> {
    if intent_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Intent> = query(
        "select intent_id, client_secret, status, amount_minor, received_minor, refunded_minor, currency, metadata, \
         last_error, created_at from intent where intent_id in (select value->>'id' from json_each($1))",
    )
    .bind_json(&ids(intent_ids))
    .all(tx)
    .await?;
    Ok(rows.into_iter().map(|it| (it.intent_id.clone(), it)).collect())
}

async fn load_refunds(tx: &mut Tx, refund_ids: &BTreeSet<&str>) -> db::Result<HashMap<String, Refund>> {
    if refund_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Refund> = query(
        "select refund_id, intent_id, amount_minor, status, metadata, created_at from refund \
         where refund_id in (select value->>'id' from json_each($1))",
    )
    .bind_json(&ids(refund_ids))
    .all(tx)
    .await?;
    Ok(rows.into_iter().map(|it| (it.refund_id.clone(), it)).collect())
}

async fn load_answers(tx: &mut Tx, keys: &BTreeSet<&str>) -> db::Result<HashMap<String, Kept>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, String, i64, String)> = query(
        "select key, fingerprint, status, body from answer where key in (select value->>'id' from json_each($1))",
    )
    .bind_json(&ids(keys))
    .all(tx)
    .await?;
    let kept = |(key, fingerprint, status, body): (String, String, i64, String)| {
        let status = u16::try_from(status).unwrap_or(500);
        (key, Kept { fingerprint, answer: Answer { status, body } })
    };
    Ok(rows.into_iter().map(kept).collect())
}
