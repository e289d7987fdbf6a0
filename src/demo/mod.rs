//! `showcart demo`: a short live sale against a server of its own, with viewers on real sockets and buyers over HTTP.
//!
//! Every figure is counted outside the server: by viewers from what they received, by buyers from their own answers, by the
//! books from the events that reached them; and compared with the log, the gauges and the orders at the end (`report.rs`).
//! Nothing here calls into the server: it is another process, and the demo knows what a shop, a browser and an operator know.

mod books;
mod buyer;
mod picture;
mod progress;
mod report;
mod server;
mod shop;
mod viewer;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::books::Books;
use self::buyer::{Character, Deed, Story};
use self::picture::Picture;
use self::progress::Progress;
use self::report::{Evidence, Report};
use self::server::{Folder, Server};
use self::shop::Shop;
use self::viewer::{Counter, Seat, Viewer};
use crate::auth::{Keys, Role};
use crate::catalogue::{Catalogue, Product};
use crate::check;
use crate::clock::{Clock, Millis};
use crate::config::Config;
use crate::db::{Db, sqlite_url};
use crate::ids::{ProductId, ShowId};
use crate::live::{self, Entry, Seq};
use crate::money::Currency;
use crate::payment::sandbox;
use crate::server::stop_signal;

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Products for the show, a Shopify CSV or a JSON list; without it, a few of our own invention.
    #[arg(long)]
    catalogue: Option<PathBuf>,

    /// The currency of products whose catalogue names none.
    #[arg(long, default_value = "EUR")]
    currency: Currency,

    /// Viewers, each with a socket.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    viewers: u32,

    /// Buyers who want a unit of the sale in the same second.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    buyers: u32,

    /// Units that there are.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    units: u32,

    /// How long the show lasts; longer when not everybody has paid.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(3..=3_600))]
    seconds: u32,

    /// Folder of the built pages, `web/dist`; without it, the server has one plain page and the show no picture.
    #[arg(long, env = "WEB_DIR")]
    web_dir: Option<PathBuf>,

    /// Print one JSON object on the last line of stdout.
    #[arg(long)]
    json: bool,

    /// Leave the server running and its folder in place, and print addresses and tokens.
    #[arg(long)]
    keep: bool,
}

/// What happens in the show, and at which part of it. The sale starts by itself, at [`SALE_AT`].
const SCRIPT: &[(f64, Act)] = &[
    (0.04, Act::Pin(0)),
    (0.08, Act::Banner),
    (0.12, Act::ArmSale),
    (0.14, Act::Countdown),
    (0.16, Act::Pin(1)),
    (0.5, Act::Poll),
    (0.75, Act::Pin(2)),
    (0.9, Act::Pin(1)),
];
/// How long the poll is open.
const POLL: f64 = 0.2;
const SALE_AT: f64 = 0.3;

#[derive(Debug, Clone, Copy)]
enum Act {
    /// One of the products that were chosen; the second is the one on sale.
    Pin(usize),
    ArmSale,
    Banner,
    /// To the start of the sale.
    Countdown,
    Poll,
}

/// Products that are taken from a catalogue: more than a host shows in an evening.
const PRODUCTS_MAX: usize = 300;
const PERCENT_OFF: i64 = 20;
/// Of each product in the show that `--keep` leaves open; the first show had more.
const KEPT_UNITS: i64 = 10;
/// Buyers come within this after the start, and a few before it.
const RUSH_MS: i64 = 900;
/// How long viewers may take to get their first picture, and everybody to get the last news.
const PATIENCE: Duration = Duration::from_secs(15);
const SETTLING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

/// Runs the demo; answers whether every invariant holds.
///
/// # Errors
/// A catalogue that cannot be used, a server that does not start or refuses what a host may do.
pub async fn run(options: Options) -> anyhow::Result<bool> {
    check_open_files(&options)?;
    let mut folder = Folder::make()?;
    let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let mut picture = None;
    let mut folders = Vec::new();
    if let Some(web) = &options.web_dir {
        folders.push(("WEB_DIR", web.as_path()));
        picture = Picture::start(folder.path()).await?;
    }
    folders.extend(picture.as_ref().map(|it| ("MEDIA_DIR", it.folder())));
    let mut server = Server::start(folder.path(), &secret, &folders).await?;
    let video_url = picture.as_ref().map(|_| picture::ADDRESS);
    let keys = Keys::open(&Config { secret: Some(secret), ..Config::default() }).await?;
    let db = Db::open_existing(&sqlite_url(&folder.path().join("showcart.sqlite"))).await?;
    let clock = Clock::starting_at(db.read().await?.now().await?);
    let shop = Shop::new(&server.url, keys, clock)?;
    let authority = server.authority().to_owned();

    let (report, show, left) = tokio::select! {
        done = perform(&options, &shop, &authority, &db, video_url) => done?,
        ended = server.ended() => bail!("the server ended before the show did: {}", ended?),
        () = stop_signal() => bail!("stopped"),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report.text())?;
    if options.keep {
        folder.keep();
        let next = open_another_show(&shop, &report, &left, video_url).await?;
        writeln!(out, "{}", kept(&server.url, folder.path(), &shop, show, next)?)?;
        writeln!(out, "{}", pages(&options, &server.url, &shop, next)?)?;
    }
    if options.json {
        writeln!(out, "{}", report.json())?;
    }
    out.flush()?;
    drop(out);
    if options.keep {
        tokio::select! {
            ended = server.ended() => bail!("the server has ended: {}", ended?),
            () = stop_signal() => {}
        }
    }
    db.close().await;
    server.stop().await?;
    Ok(report.is_good())
}

/// Sockets and connections are files; running out of them half way would look like a fault of the server.
fn check_open_files(options: &Options) -> anyhow::Result<()> {
    let needed = u64::from(options.viewers) + 2 * u64::from(options.buyers) + 100;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|it| it.strip_prefix("Max open files"));
    // No such file, or no limit: nothing to complain about.
    let Some(limit) = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok()) else { return Ok(()) };
    ensure!(
        limit >= needed,
        "so many viewers and buyers need {needed} open files, and the limit is {limit}: say `ulimit -n {needed}` first"
    );
    Ok(())
}

/// The show, from the first product to the last comparison.
async fn perform(
    options: &Options,
    shop: &Shop,
    authority: &str,
    db: &Db,
    video_url: Option<&str>,
) -> anyhow::Result<(Report, ShowId, [ProductId; 2])> {
    let mut progress = Progress::begin();
    let stage = Stage::set(options, shop, &mut progress, video_url).await?;
    for line in pages(options, &format!("http://{authority}"), shop, stage.show)?.lines() {
        progress.say(line);
    }
    let (stopping, stop) = watch::channel(());
    let (counter, shown) = watch::channel(Counter::default());
    let seat = |token, taste| Seat {
        authority: authority.to_owned(),
        show: stage.show,
        token,
        clock: shop.clock().clone(),
        taste,
    };
    let desk_token = shop.token(Role::Analyst, "ina", Some(stage.show))?;
    let books = books::keep(shop.clone(), stage.show, desk_token.clone(), stop.clone());
    let desk = Viewer::watch(seat(Some(desk_token), None), Some(counter), stop.clone());
    let mut viewers = Vec::new();
    for number in 0..options.viewers {
        // Every second one is a guest, and guests do not vote in this show.
        let (token, taste) = match number % 2 {
            0 => (
                Some(shop.token(Role::Viewer, &format!("viewer-{number}"), Some(stage.show))?),
                Some(number as usize / 2),
            ),
            _ => (None, None),
        };
        viewers.push(Viewer::watch(seat(token, taste), None, stop.clone()));
    }
    let joined = || viewers.iter().chain([&desk]).filter(|it| it.look(|seen| seen.first.is_some())).count();
    let all = viewers.len() + 1;
    wait_until(PATIENCE, || joined() == all).await;
    progress.say(&format!("{} of {} viewers have the picture", joined().min(viewers.len()), viewers.len()));

    let mut played = Play { options, shop, stage: &stage, desk: &desk, books: &books, shown, progress: &mut progress };
    let (sale, stories) = played.play().await?;
    shop.host(Method::POST, &["shows", &stage.show.to_string(), "end"], Some(json!({}))).await?;
    progress.say("the show has ended; comparing what everybody got");

    let mut tx = db.read().await?;
    let (log, gauges) = (whole_log(&mut tx, stage.show).await?, live::gauges(&mut tx, stage.show).await?);
    drop(tx);
    let orders = shop.pages(&["shows", &stage.show.to_string(), "orders"]).await?;
    let late = Viewer::watch(seat(None, None), None, stop.clone());
    let checked = check_all(db, &orders).await?;
    let evidence = Evidence {
        title: stage.title,
        currency: stage.currency,
        seconds: options.seconds,
        units: i64::from(options.units),
        expected_paid: u64::from(options.units.min(options.buyers)),
        product: stage.chosen[1].title.clone(),
        sale_price_minor: sale.price_minor,
        allocated: stage.allocated,
        buyers: options.buyers,
        viewers,
        desk,
        late,
        books,
        log,
        gauges,
        stories,
        orders,
        checked,
    };
    wait_until(SETTLING, || evidence.is_settled()).await;
    let report = Report::of(&evidence);
    drop(stopping);
    // The one between them was sold out.
    Ok((report, stage.show, [stage.chosen[0].product_id, stage.chosen[2].product_id]))
}

/// Waits for something that is looked at again and again; what did not come in time is for the report to say.
async fn wait_until(patience: Duration, enough: impl Fn() -> bool) {
    let deadline = Instant::now() + patience;
    while !enough() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// What `showcart check` says about the database, and about the provider's ledger if anybody has paid there.
async fn check_all(db: &Db, orders: &[Value]) -> anyhow::Result<Vec<check::Line>> {
    let ledger = orders.iter().find_map(|it| it["payment"]["provider_url"].as_str()).map(|url| {
        sandbox::Client::new(sandbox::Access {
            url: url.to_owned(),
            public_url: url.to_owned(),
            api_key: sandbox::LOOPBACK_API_KEY.into(),
            // Nobody sends us events.
            webhook_secret: String::new(),
        })
    });
    check::run(db, ledger.as_ref()).await
}

/// The export of a show's log.
async fn whole_log(tx: &mut crate::db::Tx, show: ShowId) -> anyhow::Result<Vec<Entry>> {
    const PAGE: i64 = 1_000;
    let mut log: Vec<Entry> = Vec::new();
    loop {
        let after = log.last().map_or(Seq(0), |it| it.seq);
        let page = live::since(tx, show, after, PAGE).await?;
        let is_last = (page.len() as i64) < PAGE;
        log.extend(page);
        if is_last {
            return Ok(log);
        }
    }
}

/// What stands ready before the show begins.
struct Stage {
    title: &'static str,
    show: ShowId,
    currency: Currency,
    /// Opener, the product on sale, and what comes after it.
    chosen: [Chosen; 3],
    allocated: i64,
}

#[derive(Clone)]
struct Chosen {
    product_id: ProductId,
    title: String,
}

impl Stage {
    async fn set(
        options: &Options,
        shop: &Shop,
        progress: &mut Progress,
        video_url: Option<&str>,
    ) -> anyhow::Result<Stage> {
        let (products, refused) = read_catalogue(options)?;
        let chosen = choose(&products)?;
        let currency = chosen[1].currency;
        progress.say(&format!("{} products ({refused} rows refused)", products.len()));
        for product in &products {
            put_product(shop, product, product.on_hand.unwrap_or(0)).await?;
        }
        let title = "The showcart demo";
        let show = json!({ "title": title, "currency": currency, "video_url": video_url });
        let show = shop.host(Method::POST, &["shows"], Some(show)).await?;
        let show: ShowId = text(&show, "show_id")?.parse().context("the id of the show")?;
        let mut shown = Vec::new();
        let mut allocated = 0;
        for (position, product) in chosen.iter().enumerate() {
            // What is sold has exactly as many units as were asked for.
            let units = if position == 1 { i64::from(options.units) } else { 20 };
            let stored = put_product(shop, product, units).await?;
            let product_id = text(&stored, "product_id")?.to_owned();
            let listing = json!({ "allocated": units, "position": position });
            let path = ["shows", &show.to_string(), "lineup", &product_id];
            let listed = shop.host(Method::PUT, &path, Some(listing)).await?;
            if position == 1 {
                allocated = listed["allocated"].as_i64().context("a listing says how many units it has")?;
            }
            let product_id = product_id.parse().context("the id of a product")?;
            shown.push(Chosen { product_id, title: product.title.clone() });
        }
        shop.host(Method::POST, &["shows", &show.to_string(), "start"], Some(json!({}))).await?;
        let chosen = shown.try_into().map_err(|_| anyhow::anyhow!("three products were chosen"))?;
        Ok(Stage { title, show, currency, chosen, allocated })
    }
}

fn text<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value[name].as_str().with_context(|| format!("an answer without {name}: {value}"))
}

/// Products and how many rows were none.
fn read_catalogue(options: &Options) -> anyhow::Result<(Vec<Product>, usize)> {
    let (mut products, mut refused) = (Vec::new(), Vec::new());
    let mut sort = |row| match row {
        Ok(product) => products.push(product),
        Err(it) => refused.push(it),
    };
    match &options.catalogue {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
            Catalogue::new(file, None, Some(options.currency)).take(PRODUCTS_MAX).for_each(&mut sort);
        }
        None => Catalogue::new(&include_bytes!("catalogue.json")[..], None, None).for_each(&mut sort),
    }
    if products.is_empty() {
        let why = refused.first().map_or("it has no rows".to_owned(), |it| format!("line {}: {}", it.line, it.reason));
        bail!("the catalogue has no product that can be sold: {why}");
    }
    Ok((products, refused.len()))
}

/// An opener, the one on sale, and one for the end: of different makes where there are, in one currency.
fn choose(products: &[Product]) -> anyhow::Result<[&Product; 3]> {
    // A discount of a few cents would be no sale.
    let hero = products.iter().filter(|it| it.price_minor >= 100).nth(1).or(products.first()).context("no product")?;
    let mut others = products.iter().filter(|it| it.currency == hero.currency && it.handle != hero.handle);
    let opener = others.next().unwrap_or(hero);
    let closer = others.find(|it| it.handle != opener.handle).unwrap_or(opener);
    ensure!(hero.sku != opener.sku, "the demo needs a catalogue with at least two products in {}", hero.currency);
    Ok([opener, hero, closer])
}

async fn put_product(shop: &Shop, product: &Product, on_hand: i64) -> anyhow::Result<Value> {
    let body = json!({
        "handle": product.handle, "title": product.title, "variant": product.variant, "description": product.description,
        "price_minor": product.price_minor, "compare_at_minor": product.compare_at_minor, "currency": product.currency,
        "image_url": product.image_url, "on_hand": on_hand,
    });
    shop.host(Method::PUT, &["products", &product.sku], Some(body)).await
}

/// The sale as the host's panel shows it.
struct Armed {
    sale_id: String,
    price_minor: i64,
    starts_at: Millis,
    ends_at: Millis,
}

/// The show while it runs.
struct Play<'a> {
    options: &'a Options,
    shop: &'a Shop,
    stage: &'a Stage,
    desk: &'a Viewer,
    books: &'a Mutex<Books>,
    shown: watch::Receiver<Counter>,
    progress: &'a mut Progress,
}

impl Play<'_> {
    /// Plays the script and waits for every buyer.
    async fn play(&mut self) -> anyhow::Result<(Armed, Vec<Story>)> {
        let start = Instant::now();
        let seconds = f64::from(self.options.seconds);
        let mut steps = SCRIPT.iter();
        let mut next = steps.next();
        let mut sale = None;
        let (mut buyers, mut stories) = (JoinSet::new(), Vec::new());
        let mut look = tokio::time::interval(LOOK);
        while next.is_some() || !buyers.is_empty() || start.elapsed().as_secs_f64() < seconds {
            look.tick().await;
            if let Some((at, act)) = next
                && start.elapsed().as_secs_f64() >= at * seconds
            {
                match act {
                    Act::Pin(which) => self.pin(&self.stage.chosen[*which]).await?,
                    Act::Banner => self.put("banners", json!({ "text": "Free shipping tonight" })).await?,
                    Act::Countdown => {
                        let left = Duration::from_secs_f64(SALE_AT * seconds).saturating_sub(start.elapsed());
                        let timer = json!({ "label": "The sale starts in", "duration_ms": left.as_millis().max(1) });
                        self.put("timers", timer).await?;
                    }
                    Act::Poll => {
                        let duration_ms = (POLL * seconds * 1_000.0) as u64;
                        let poll = json!({
                            "question": "Which one do we show next week?", "choices": ["The first", "The second", "Both"],
                            "duration_ms": duration_ms,
                        });
                        self.put("polls", poll).await?;
                    }
                    Act::ArmSale => {
                        let starts_in = Duration::from_secs_f64(SALE_AT * seconds).saturating_sub(start.elapsed());
                        let armed = self.arm(starts_in).await?;
                        self.send_buyers(&armed, &mut buyers)?;
                        sale = Some(armed);
                    }
                }
                next = steps.next();
            }
            while let Some(story) = buyers.try_join_next() {
                stories.push(story.context("a buyer of the demo")?);
            }
            self.show_state(stories.len());
        }
        Ok((sale.context("the script has a sale")?, stories))
    }

    async fn pin(&mut self, what: &Chosen) -> anyhow::Result<()> {
        let path = ["shows", &self.stage.show.to_string(), "pin"];
        self.shop.host(Method::PUT, &path, Some(json!({ "product_id": what.product_id }))).await?;
        self.progress.say(&format!("on screen: {}", what.title));
        Ok(())
    }

    /// Puts something on stage that ends by itself or with the show.
    async fn put(&mut self, kind: &str, what: Value) -> anyhow::Result<()> {
        self.shop.host(Method::POST, &["shows", &self.stage.show.to_string(), kind], Some(what)).await?;
        Ok(())
    }

    async fn arm(&mut self, starts_in: Duration) -> anyhow::Result<Armed> {
        let units = self.options.units;
        // Payments go to the provider at its pace; a sale that is sold out is over long before its end.
        let window = Duration::from_secs_f64(f64::from(self.options.seconds) / 2.0)
            .max(Duration::from_secs(10 + u64::from(units) / 8));
        let starts_at = self.shop.clock().now() + starts_in;
        let terms = json!({
            "product_id": self.stage.chosen[1].product_id, "percent_off": PERCENT_OFF, "cap": units,
            "limit_per_buyer": 1, "starts_at": starts_at, "ends_at": starts_at + window,
        });
        let path = ["shows", &self.stage.show.to_string(), "sales"];
        let sale = self.shop.host(Method::POST, &path, Some(terms)).await?;
        let title = &self.stage.chosen[1].title;
        self.progress.say(&format!("armed: {units} units of {title}, {PERCENT_OFF} % off"));
        Ok(Armed {
            sale_id: text(&sale, "sale_id")?.to_owned(),
            price_minor: sale["price_minor"].as_i64().context("a sale has a price")?,
            starts_at,
            ends_at: starts_at + window,
        })
    }

    fn send_buyers(&mut self, armed: &Armed, buyers: &mut JoinSet<Story>) -> anyhow::Result<()> {
        let left = armed.ends_at.since(self.shop.clock().now());
        let sale = buyer::Sale {
            shop: self.shop.clone(),
            show: self.stage.show,
            sale_id: armed.sale_id.clone(),
            starts_at: armed.starts_at,
            ends_at: armed.ends_at,
            counter: self.shown.clone(),
            give_up: Instant::now() + left + Duration::from_secs(30),
        };
        for number in 0..self.options.buyers {
            let token = self.shop.token(Role::Viewer, &format!("buyer-{number}"), Some(self.stage.show))?;
            buyers.spawn(buyer::live(token, sale.clone(), self.character(number)));
        }
        Ok(())
    }

    /// The same buyers in every run.
    fn character(&self, number: u32) -> Character {
        // Units that are let go must find somebody else.
        let enough_others = self.options.buyers >= 2 * self.options.units;
        let deed = match number % 6 {
            1 => Deed::DeclinedFirst,
            3 => Deed::SecondLook,
            5 if enough_others => Deed::LetsGo,
            _ => Deed::Pays,
        };
        // Among the first are some of every kind.
        let delay_ms = if number % 19 == 5 { -400 } else { i64::from(number) * 37 % RUSH_MS };
        Character { delay_ms, deed }
    }

    fn show_state(&mut self, done: usize) {
        let counter = *self.shown.borrow();
        let gmv = self.desk.look(|seen| seen.gauges.get("gmv").map(|(_, value)| value.clone()));
        let gmv = gmv.and_then(|it| serde_json::from_str::<Value>(&it).ok()?["gmv_minor"].as_i64()).unwrap_or(0);
        let booked = self.books.lock().expect("nothing panics while it holds the books").events.len();
        let Counter { left, in_checkout, sold } = counter;
        let currency = self.stage.currency;
        self.progress.show(&format!(
            "{left} left · {in_checkout} in checkout · {sold} sold · GMV {} {currency} · {booked} events booked · {done} of {} \
             buyers done",
            currency.format_minor(gmv),
            self.options.buyers
        ));
    }
}

/// A show to try things in, with what the first one has left.
async fn open_another_show(
    shop: &Shop,
    report: &Report,
    left: &[ProductId],
    video_url: Option<&str>,
) -> anyhow::Result<ShowId> {
    let show = json!({ "title": "Still open", "currency": report.currency(), "video_url": video_url });
    let show = shop.host(Method::POST, &["shows"], Some(show)).await?;
    let show = text(&show, "show_id")?;
    for (position, product) in left.iter().enumerate() {
        let path = ["shows", show, "lineup", &product.to_string()];
        shop.host(Method::PUT, &path, Some(json!({ "allocated": KEPT_UNITS, "position": position }))).await?;
    }
    shop.host(Method::POST, &["shows", show, "start"], Some(json!({}))).await?;
    if let Some(product) = left.first() {
        shop.host(Method::PUT, &["shows", show, "pin"], Some(json!({ "product_id": product }))).await?;
    }
    show.parse().context("the id of the show")
}

/// Where to look at a show.
fn pages(options: &Options, url: &str, shop: &Shop, show: ShowId) -> anyhow::Result<String> {
    let host = shop.token(Role::Host, "hanna", None)?;
    let buyer = shop.token(Role::Viewer, "ann", None)?;
    Ok(match options.web_dir {
        Some(_) => format!(
            "viewer     {url}/#show={show}&token={buyer}\ndesk       {url}/desk#show={show}&token={host}\n\
             dashboard  {url}/dashboard#show={show}&token={host}",
        ),
        None => format!("page       {url}/#show={show}&viewer={buyer}&host={host}"),
    })
}

fn kept(url: &str, folder: &std::path::Path, shop: &Shop, show: ShowId, next: ShowId) -> anyhow::Result<String> {
    Ok(format!(
        "The server goes on until Ctrl-C.\n  address   {url}\n  folder    {}\n  the show  {show} (ended)\n  \
         live now  {next}\n  tokens    host     {}\n            analyst  {}\n            buyer    {}\n",
        folder.display(),
        shop.token(Role::Host, "hanna", None)?,
        shop.token(Role::Analyst, "ina", None)?,
        shop.token(Role::Viewer, "ann", None)?,
    ))
}
