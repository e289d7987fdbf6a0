//! Applies checked rows, a chunk at a time: one after the other while nobody else writes, and with long rests while the shop
//! does, so that few of its buyers meet a chunk. (On several nodes: while the shop writes on the node that imports.)
//!
//! How a chunk keeps out of deadlocks: it writes products first, in the order of their SKUs, and stock after them, one
//! statement for each row that changes, in the order of their ids. Lanes lock stock rows in that order too and never wait
//! for a product's row (their references to it take a lock that goes with ours); whoever writes a single product takes its
//! row before its stock. Stock of products that this chunk makes is written all at once, because nobody can see it yet.

use std::collections::HashMap;
use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};

use super::{Counts, Job, Refusal, Refusals, recorded};
use crate::checkout::store::{self, OnHand};
use crate::db::{self, Db, Turn};
use crate::failpoints;
use crate::ids::ProductId;
use crate::product::{self, Product, Standing};
use crate::units::Units;

/// A row that was checked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) line: u64,
    /// None leaves what there is.
    pub(super) on_hand: Option<Units>,
    /// With the id that it gets if it is new.
    pub(super) product: Product,
}

/// Rows of a chunk while nobody else writes: many in one commit cost least in a whole.
const ROWS_MAX: usize = 200;
/// Beside others who write, where only one may (SQLite): little more than a commit, because everybody waits for it.
const ROWS_BESIDE: usize = 10;
/// The same where others need not wait for the chunk (PostgreSQL), and only share the processor and the disk with it.
const ROWS_SHARED: usize = 50;
/// Descriptions can be long; what others wait for is bytes as much as rows.
const BYTES_MAX: usize = 256 * 1024;
/// Beside others who write, a rest is so many times as long as the chunk before it (SQLite).
const RESTS: u32 = 20;
/// The same on PostgreSQL.
const RESTS_SHARED: u32 = 12;
const REST_MAX: Duration = Duration::from_millis(500);
const ATTEMPTS_MAX: u32 = 8;

/// Applies all rows.
pub(super) async fn all(
    db: &Db,
    rows: File,
    job: Option<&Job>,
    counts: &mut Counts,
    refusals: &mut Refusals,
    mut progress: impl FnMut(&Counts),
) -> anyhow::Result<()> {
    let rows = BufReader::with_capacity(BYTES_MAX, tokio::fs::File::from_std(rows));
    let mut lines = rows.lines();
    let (beside, rests) = if db.is_sqlite() { (ROWS_BESIDE, RESTS) } else { (ROWS_SHARED, RESTS_SHARED) };
    let mut size = beside;
    let mut shop_writes = db.shop_writes();
    loop {
        let chunk = next_chunk(&mut lines, size).await?;
        if chunk.is_empty() {
            return Ok(());
        }
        let took = chunk_until_applied(db, &chunk, job, counts, refusals).await?;
        failpoints::crash("import_chunk");
        progress(counts);
        let before = std::mem::replace(&mut shop_writes, db.shop_writes());
        let is_alone = shop_writes == before;
        size = if is_alone { ROWS_MAX } else { beside };
        if !is_alone {
            tokio::time::sleep((took * rests).min(REST_MAX)).await;
        }
    }
}

async fn next_chunk(lines: &mut Lines<BufReader<tokio::fs::File>>, size: usize) -> anyhow::Result<Vec<Row>> {
    let (mut chunk, mut bytes) = (Vec::with_capacity(size), 0);
    while chunk.len() < size && bytes < BYTES_MAX {
        let Some(line) = lines.next_line().await.context("reading the data folder")? else { break };
        bytes += line.len();
        chunk.push(serde_json::from_str::<Row>(&line).context("reading back a row")?);
    }
    chunk.sort_by(|one: &Row, other| one.product.sku.cmp(&other.product.sku));
    Ok(chunk)
}

/// Applies a chunk, again when it met others; how long it had the database to itself.
async fn chunk_until_applied(
    db: &Db,
    chunk: &[Row],
    job: Option<&Job>,
    counts: &mut Counts,
    refusals: &mut Refusals,
) -> anyhow::Result<Duration> {
    // The commit of an attempt may have been made and its answer lost.
    let mut in_doubt = false;
    for attempt in 1..=ATTEMPTS_MAX {
        let (mut new_counts, mut new_refusals) = (*counts, refusals.clone());
        let tried = async {
            if in_doubt && let Some(now) = applied_after_all(db, job, counts).await? {
                (new_counts, new_refusals) = now;
                return Ok(Tried::Applied(Duration::ZERO));
            }
            in_doubt = false;
            try_chunk(db, chunk, job, &mut new_counts, &mut new_refusals).await
        };
        match tried.await {
            Ok(Tried::Applied(took)) => {
                (*counts, *refusals) = (new_counts, new_refusals);
                return Ok(took);
            }
            Ok(Tried::Overtaken) => {}
            Err(error) if error.downcast_ref().is_some_and(db::is_transient) => {
                tracing::warn!(%error, "a chunk of an import is tried again");
                tokio::time::sleep(Duration::from_millis(100) * attempt).await;
                in_doubt = true;
            }
            Err(error) => return Err(error),
        }
    }
    anyhow::bail!("The database refused a chunk {ATTEMPTS_MAX} times because others were writing the same products")
}

/// What the job's row counts, if it counts more than we know of.
async fn applied_after_all(db: &Db, job: Option<&Job>, counts: &Counts) -> anyhow::Result<Option<(Counts, Refusals)>> {
    let Some(job) = job else { return Ok(None) };
    let now = recorded(&mut db.read().await?, job.import_id).await?.context("the job's row is gone")?;
    let applied = |it: &Counts| it.created + it.changed + it.unchanged + it.refused;
    let refusals = Refusals { count: now.counts.refused, first: now.refusals };
    Ok((applied(&now.counts) > applied(counts)).then_some((now.counts, refusals)))
}

enum Tried {
    Applied(Duration),
    /// Somebody wrote one of the products between our look at it and our lock; nothing was written.
    Overtaken,
}

async fn try_chunk(
    db: &Db,
    chunk: &[Row],
    job: Option<&Job>,
    counts: &mut Counts,
    refusals: &mut Refusals,
) -> anyhow::Result<Tried> {
    let skus: Vec<Value> = chunk.iter().map(|it| json!({ "sku": it.product.sku })).collect();
    // Read before it is our turn, so that nobody waits while we compare; what changes meanwhile is found below.
    let standing = product::standing(&mut db.read().await?, &skus).await?;
    let standing: HashMap<&str, &Standing> = standing.iter().map(|it| (it.sku.as_str(), it)).collect();
    let refused_before = refusals.count;
    let plan = plan(chunk, &standing, counts, refusals);
    let mut tx = match job {
        // The end of the job flushes all of them.
        Some(_) => db.write_unflushed(Turn::Import).await?,
        None => db.write(Turn::Import).await?,
    };
    let began = Instant::now();
    let ids = product::upsert(&mut tx, &plan.products).await?;
    let ids: HashMap<String, ProductId> = ids.into_iter().collect();
    if plan.made.iter().any(|(product, _)| ids.get(&product.sku) != Some(&product.product_id)) {
        return Ok(Tried::Overtaken);
    }
    let made: Vec<Value> = plan
        .made
        .iter()
        .map(|(product, on_hand)| json!({ "product_id": product.product_id, "on_hand": on_hand }))
        .collect();
    store::stock_new(&mut tx, &made).await?;
    for (product_id, on_hand) in plan.stock {
        if store::set_on_hand(&mut tx, product_id, on_hand).await? == OnHand::Fenced {
            return Ok(Tried::Overtaken);
        }
    }
    if let Some(job) = job {
        let refusals = (refusals.count > refused_before).then_some(refusals.first.as_slice());
        job.record(&mut tx, counts, refusals).await?;
    }
    tx.commit().await?;
    if failpoints::fires("chunk_unknown") {
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        return Err(db::Error::Io(lost).into());
    }
    Ok(Tried::Applied(began.elapsed()))
}

/// What a chunk writes.
struct Plan<'a> {
    /// In the order of their SKUs.
    products: Vec<&'a Product>,
    made: Vec<(&'a Product, Units)>,
    /// In the order of their ids.
    stock: Vec<(ProductId, Units)>,
}

fn plan<'a>(
    chunk: &'a [Row],
    standing: &HashMap<&str, &Standing>,
    counts: &mut Counts,
    refusals: &mut Refusals,
) -> Plan<'a> {
    let mut plan = Plan { products: Vec::new(), made: Vec::new(), stock: Vec::new() };
    for Row { line, on_hand, product } in chunk {
        let Some(it) = standing.get(product.sku.as_str()) else {
            counts.created += 1;
            plan.products.push(product);
            plan.made.push((product, on_hand.unwrap_or(Units::ZERO)));
            continue;
        };
        if let (Some(on_hand), Some(fenced)) = (on_hand, it.fenced)
            && fenced > *on_hand
        {
            counts.refused += 1;
            let reason = format!("Shows have {fenced} units of it and the quantity is {on_hand}; raise the quantity.");
            refusals.add(Refusal { line: *line, sku: Some(product.sku.clone()), reason });
            continue;
        }
        if it.fenced.is_some_and(|fenced| fenced > Units::ZERO) && it.currency != product.currency {
            counts.refused += 1;
            let reason =
                format!("Shows sell it in {}; end them before it is priced in {}.", it.currency, product.currency);
            refusals.add(Refusal { line: *line, sku: Some(product.sku.clone()), reason });
            continue;
        }
        let new_count = on_hand.filter(|count| it.on_hand != Some(*count));
        let same = it.says(product);
        if same && new_count.is_none() {
            counts.unchanged += 1;
            continue;
        }
        counts.changed += 1;
        if !same {
            plan.products.push(product);
        }
        plan.stock.extend(new_count.map(|count| (it.product_id, count)));
    }
    plan.stock.sort();
    plan
}
