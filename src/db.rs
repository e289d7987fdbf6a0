//! One SQL text for SQLite and PostgreSQL; the driver is chosen at the last step.
//!
//! Every statement is written once, where it is used, in the dialect that both databases share, with `$1` parameters, and
//! run through [`query`]. Ids are text, times are `bigint` milliseconds, payloads are text. Batches travel as one JSON
//! parameter, an array of objects, through `json_each`: `value->>'k'` for text, `cast(value->>'k' as bigint)` for numbers,
//! flags as 0 or 1.
//!
//! The differences that this file hides, all of them:
//! * `json_each(text)`: built into SQLite; on PostgreSQL a function of that name is made by [`Db::open`].
//! * How a write transaction begins (`begin immediate`, read committed) and who waits where ([`Turn`], [`Tx::stand_in_line`]).
//! * The clock ([`Tx::now`]).
//! * How a database is copied ([`Db::copy_to`]).
//! * Which commits wait for the disk ([`Db::write_unflushed`]).
//! * Settings that only PostgreSQL has: time-outs, how its planner weighs, fillfactor of the tables that are updated all the time.
//!
//! Known traps of the shared dialect, refused by `tests/it/tidy.rs` where a word shows them: `sum` of a bigint must be
//! cast; `greatest`, `now()`, `= any(…)`, `for update`, `::` do not port; a parameter that was not bound is null on SQLite.

#![allow(clippy::disallowed_methods)] // This is the one file that speaks to a driver and reads the wall clock.

mod checkpoint;
mod turn;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection, FromRow, Postgres, SqlSafeStr, Sqlite, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Millis;

pub use sqlx::{Error, Result};
pub use turn::Turn;

/// A handle to the database; cloning it is cheap.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

enum Inner {
    /// SQLite lets one writer in at a time, so writers queue for a single connection, see [`Turn`].
    Sqlite {
        read: SqlitePool,
        write: SqlitePool,
        checkpoint: SqlitePool,
        turns: turn::Turns,
        /// How the connection for writing makes commits last at the moment.
        flush: AtomicFlush,
        last_ms: AtomicI64,
        shop_writes: AtomicU64,
    },
    /// Reads and writes have their own pools, so that writers waiting for a show's head row cannot starve snapshots.
    Postgres {
        read: PgPool,
        write: PgPool,
        /// Sinks that write at once: nobody waits for them, and many of them must not stand before those for whom somebody does.
        sinks: Arc<Semaphore>,
        shop_writes: AtomicU64,
    },
}

/// When a commit is safe from a power failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    AtCommit,
    /// With the next one that is flushed at its commit.
    Later,
}

/// What a connection of SQLite was told last of [`Flush`]; unknown while it is being told.
#[derive(Default)]
struct AtomicFlush(AtomicU8);

impl AtomicFlush {
    async fn set(&self, how: Flush, connection: &mut sqlx::SqliteConnection) -> Result<()> {
        const UNKNOWN: u8 = 0;
        let (number, statement) = match how {
            Flush::AtCommit => (1, "pragma synchronous = full"),
            Flush::Later => (2, "pragma synchronous = normal"),
        };
        if self.0.load(Ordering::Relaxed) != number {
            // Whoever gives up in the middle leaves it unknown.
            self.0.store(UNKNOWN, Ordering::Relaxed);
            sqlx::query(statement).execute(connection).await?;
            self.0.store(number, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Connections that sinks may have of those for writing.
const SINKS_AT_ONCE: usize = 3;

/// A place in a queue that a transaction keeps until it ends.
#[expect(dead_code, reason = "held, never looked at")]
enum Permit {
    Turn(turn::Permit),
    Sink(OwnedSemaphorePermit),
}

/// An open transaction; dropping it rolls back.
pub struct Tx {
    driver: Driver,
    db: Db,
    /// Given back after the connection: fields are dropped in order.
    _permit: Option<Permit>,
}

enum Driver {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// The steps that bring a schema up to date: (version, name, SQL), in order, never changed once released.
pub type Migrations = &'static [(i64, &'static str, &'static str)];

/// A function of SQLite's name for PostgreSQL. It overloads the built-in `json_each(json)` for text arguments only.
const JSON_EACH: &str = "create or replace function json_each(text) returns table (value json) \
     language sql immutable parallel safe as 'select value from json_array_elements($1::json)'";

/// Guards [`JSON_EACH`]: two nodes that start together would otherwise fail with "tuple concurrently updated".
const SETUP_LOCK: &str = "select pg_advisory_xact_lock(7236014)";

impl Db {
    /// Opens the database named by `url` (`sqlite:PATH` or `postgres://…`) and brings its schema up to date.
    ///
    /// # Errors
    /// An address that cannot be read, a database that cannot be reached, or a schema newer than this program.
    pub async fn open(url: &str, migrations: Migrations) -> anyhow::Result<Db> {
        let migrator = Migrator::with_migrations(
            migrations
                .iter()
                .map(|&(version, name, sql)| {
                    Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
                })
                .collect(),
        );
        if is_postgres(url) {
            let options = PgConnectOptions::from_str(url).context("the address of the database")?;
            let mut setup = sqlx::PgConnection::connect_with(&options).await.context("connecting to PostgreSQL")?;
            migrator.run(&mut setup).await.context("bringing the schema up to date")?;
            let mut tx = setup.begin().await?;
            sqlx::query(SETUP_LOCK).execute(&mut *tx).await?;
            sqlx::query(JSON_EACH).execute(&mut *tx).await?;
            tx.commit().await?;
            setup.close().await?;
            // A statement that waits longer than a request is worth nothing. None of them is meant to read a whole table: left
            // to itself, the planner takes a small one as a whole, and the table of a sale that has just begun is small.
            let own = [
                ("statement_timeout", "10s"),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
            ];
            return Ok(postgres(options.options(own)));
        }
        let options = sqlite_options(url)?.create_if_missing(true);
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await
            .context("opening the SQLite file")?;
        migrator.run(&write).await.context("bringing the schema up to date")?;
        let db = sqlite(options, write);
        if let Inner::Sqlite { checkpoint, turns, .. } = &*db.0 {
            tokio::spawn(checkpoint::run(Arc::downgrade(&db.0), checkpoint.clone(), turns.clone()));
        }
        Ok(db)
    }

    /// Opens an existing database without changing it: what `check` and `export` use beside a running server.
    ///
    /// # Errors
    /// No such database, or one that cannot be reached.
    pub async fn open_existing(url: &str) -> anyhow::Result<Db> {
        if is_postgres(url) {
            let options = PgConnectOptions::from_str(url).context("the address of the database")?;
            // Nobody waits for an answer, and a statement about all shows may take its time.
            return Ok(postgres(options.options([("statement_timeout", "0")])));
        }
        let options = sqlite_options(url)?;
        let path = options.get_filename().to_owned();
        anyhow::ensure!(path.exists(), "there is no database at {}", path.display());
        let write = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
        Ok(sqlite(options, write))
    }

    /// Opens a read-only transaction in which every statement sees the same state.
    ///
    /// # Errors
    /// The database cannot be reached, or all reading connections are busy for too long.
    pub async fn read(&self) -> Result<Tx> {
        let driver = match &*self.0 {
            Inner::Sqlite { read, .. } => Driver::Sqlite(read.begin().await?),
            Inner::Postgres { read, .. } => {
                Driver::Postgres(begin(read, "begin isolation level repeatable read read only").await?)
            }
        };
        Ok(Tx { driver, db: self.clone(), _permit: None })
    }

    /// Opens a write transaction when it is `turn`'s turn.
    ///
    /// # Errors
    /// The database cannot be reached, too many wait, or all writing connections are busy for too long.
    pub async fn write(&self, turn: Turn) -> Result<Tx> {
        self.begin_write(turn, Flush::AtCommit).await
    }

    /// As [`Db::write`], for one of many parts of a work. On SQLite its commit does not wait for the disk: a crash of the process
    /// loses nothing of it, but a power failure may, until somebody writes something by [`Db::write`], which flushes this too. So
    /// is the last part of the work written. On PostgreSQL it is the same as `write`: there the database can crash alone, and
    /// whoever works in parts would go on behind a part that is lost.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn write_unflushed(&self, turn: Turn) -> Result<Tx> {
        self.begin_write(turn, Flush::Later).await
    }

    async fn begin_write(&self, turn: Turn, how: Flush) -> Result<Tx> {
        let (driver, permit) = match &*self.0 {
            Inner::Sqlite { write, turns, flush, shop_writes, .. } => {
                shop_writes.fetch_add(u64::from(turn.is_awaited()), Ordering::Relaxed);
                // Answered as `busy`, like everything that may go well a little later.
                let permit = turns.take(turn).await.map_err(std::io::Error::other)?;
                let mut connection = write.acquire().await?;
                flush.set(how, &mut connection).await?;
                let tx = Transaction::begin(connection, Some("begin immediate".into_sql_str())).await?;
                (Driver::Sqlite(tx), Some(Permit::Turn(permit)))
            }
            Inner::Postgres { write, sinks, shop_writes, .. } => {
                shop_writes.fetch_add(u64::from(turn.is_awaited()), Ordering::Relaxed);
                let permit = match turn {
                    Turn::Sinks => Some(Permit::Sink(sinks.clone().acquire_owned().await.expect("nobody closes it"))),
                    _ => None,
                };
                (Driver::Postgres(begin(write, "begin isolation level read committed").await?), permit)
            }
        };
        Ok(Tx { driver, db: self.clone(), _permit: permit })
    }

    /// How many writers of this process have asked for their turn so far, imports and sinks aside: an import that sees it grow leaves
    /// the database to them.
    pub fn shop_writes(&self) -> u64 {
        match &*self.0 {
            Inner::Sqlite { shop_writes, .. } | Inner::Postgres { shop_writes, .. } => {
                shop_writes.load(Ordering::Relaxed)
            }
        }
    }

    /// Waits until every connection is closed. On SQLite this empties the write-ahead log into the file.
    pub async fn close(&self) {
        match &*self.0 {
            Inner::Sqlite { read, write, checkpoint, .. } => {
                checkpoint.close().await;
                read.close().await;
                write.close().await;
            }
            Inner::Postgres { read, write, .. } => {
                read.close().await;
                write.close().await;
            }
        }
    }

    /// Writes a copy of the database, as it is at one moment, to a new file. For SQLite only.
    ///
    /// # Errors
    /// The file cannot be written, the database cannot be read.
    pub async fn copy_to(&self, file: &Path) -> anyhow::Result<()> {
        let Inner::Sqlite { read, .. } = &*self.0 else { anyhow::bail!("PostgreSQL copies its databases itself") };
        let file = file.to_str().context("a path that is text")?;
        // Outside of a transaction, which this statement does not allow.
        sqlx::query("vacuum into $1").bind(file).execute(&mut *read.acquire().await?).await?;
        Ok(())
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(&*self.0, Inner::Sqlite { .. })
    }
}

/// Begins a transaction whole or not at all: whoever gives up in the middle of it would leave the connection in one. Whoever
/// gives up while waiting for a connection leaves the queue.
async fn begin(pool: &PgPool, statement: &'static str) -> Result<Transaction<'static, Postgres>> {
    let connection = pool.acquire().await?;
    let begun = tokio::spawn(Transaction::begin(connection, Some(statement.into_sql_str())));
    begun.await.unwrap_or(Err(Error::WorkerCrashed))
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

fn postgres(options: PgConnectOptions) -> Db {
    let options = options.options([
        // A frozen node loses its locks after so long.
        ("idle_in_transaction_session_timeout", "2s"),
        // Longer than that: whoever stands in line keeps the place, and has it when the frozen one has lost its own.
        ("lock_timeout", "4s"),
        // A plan that is kept was made for a table that was empty a minute ago; the planner itself looks how large it is now.
        ("plan_cache_mode", "force_custom_plan"),
        // What is planned against these settings looks dear, and would be compiled; nothing here is worth that.
        ("jit", "off"),
    ]);
    let pool = || PgPoolOptions::new().max_connections(10).acquire_timeout(Duration::from_secs(5));
    Db(Arc::new(Inner::Postgres {
        read: pool().connect_lazy_with(options.clone()),
        write: pool().connect_lazy_with(options),
        sinks: Arc::new(Semaphore::new(SINKS_AT_ONCE)),
        shop_writes: AtomicU64::new(0),
    }))
}

fn sqlite_options(url: &str) -> anyhow::Result<SqliteConnectOptions> {
    Ok(SqliteConnectOptions::from_str(url)
        .context("the address of the database: expected sqlite:PATH or postgres://…")?
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode `normal` may lose the last commits at a power failure: promises that were already answered.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .pragma("cache_size", "-16000")
        .pragma("wal_autocheckpoint", checkpoint::LOG_MAX_ALONE))
}

fn sqlite(options: SqliteConnectOptions, write: SqlitePool) -> Db {
    let checkpoint = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options.clone().busy_timeout(checkpoint::READERS_MAX));
    let read = SqlitePoolOptions::new()
        .max_connections(6)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options.read_only(true));
    Db(Arc::new(Inner::Sqlite {
        read,
        write,
        checkpoint,
        turns: turn::Turns::default(),
        flush: AtomicFlush::default(),
        last_ms: AtomicI64::new(0),
        shop_writes: AtomicU64::new(0),
    }))
}

/// The file that an address of SQLite names; none for PostgreSQL.
///
/// # Errors
/// An address that cannot be read.
pub fn sqlite_file(url: &str) -> anyhow::Result<Option<PathBuf>> {
    if is_postgres(url) {
        return Ok(None);
    }
    Ok(Some(sqlite_options(url)?.get_filename().to_owned()))
}

/// The address of a SQLite file.
pub fn sqlite_url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

impl Tx {
    /// Makes the transaction last.
    ///
    /// # Errors
    /// An error here may come after the database made it last: look it up before answering anybody.
    pub async fn commit(self) -> Result<()> {
        match self.driver {
            Driver::Sqlite(tx) => tx.commit().await,
            Driver::Postgres(tx) => tx.commit().await,
        }
    }

    /// Waits for its turn among all who want to lock the same thing, on every node, in the order of their coming.
    ///
    /// PostgreSQL gives a row's lock to whoever asks first after it is free, which is the one that has just had it: a node
    /// with much to do would starve the others. Its advisory locks are queues. On SQLite there is one writer, and `turn` is
    /// the queue.
    ///
    /// # Errors
    /// The database cannot be reached, or it took too long.
    pub async fn stand_in_line(&mut self, what: &str) -> Result<()> {
        if let Driver::Postgres(tx) = &mut self.driver {
            sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))").bind(what).execute(&mut **tx).await?;
        }
        Ok(())
    }

    /// The time that decides. After a lock it is not before any moment decided on under that lock earlier.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn now(&mut self) -> Result<Millis> {
        let offset = test_offset(self).await?;
        if let Driver::Postgres(tx) = &mut self.driver {
            // Its own statement: inside a locking one it would be read before the wait for the lock.
            let (now,): (i64,) = sqlx::query_as("select cast(extract(epoch from clock_timestamp()) * 1000 as bigint)")
                .fetch_one(&mut **tx)
                .await?;
            return Ok(Millis(now + offset));
        }
        let Inner::Sqlite { last_ms, .. } = &*self.db.0 else { unreachable!("the driver above is SQLite's") };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        Ok(Millis(last_ms.fetch_max(now, Ordering::Relaxed).max(now) + offset))
    }

    pub fn db(&self) -> &Db {
        &self.db
    }
}

/// By how much tests have moved the database's clock: one row, so that all processes on a database move together.
#[cfg(feature = "failpoints")]
async fn test_offset(tx: &mut Tx) -> Result<i64> {
    // A database of another schema (the sandbox provider's own file) has no such row and no such clock.
    let known: (i64,) = match &tx.driver {
        Driver::Sqlite(_) => query("select count(*) from sqlite_master where name = 'clock_offset'").one(tx).await?,
        Driver::Postgres(_) => query("select count(*) from pg_tables where tablename = 'clock_offset'").one(tx).await?,
    };
    if known.0 == 0 {
        return Ok(0);
    }
    let row: Option<(i64,)> = query("select offset_ms from clock_offset").optional(tx).await?;
    Ok(row.map_or(0, |it| it.0))
}

#[cfg(not(feature = "failpoints"))]
async fn test_offset(_: &mut Tx) -> Result<i64> {
    Ok(0)
}

/// A value bound to a parameter; the type is kept for nulls, because PostgreSQL checks it.
#[derive(Debug, Clone)]
pub enum Arg {
    Bool(Option<bool>),
    Int(Option<i64>),
    Text(Option<String>),
}

/// A row both databases can decode: tuples, and structs declared with [`row!`].
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}
impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// A statement and its parameters.
pub struct Query {
    sql: &'static str,
    args: Vec<Arg>,
}

pub fn query(sql: &'static str) -> Query {
    Query { sql, args: Vec::new() }
}

/// Runs `$method` on whichever driver holds the transaction.
macro_rules! run {
    ($self:ident, $tx:ident, $query:path, $method:ident) => {
        match &mut $tx.driver {
            Driver::Sqlite(tx) => run!(@bound $query($self.sql), $self.args).$method(&mut **tx).await,
            Driver::Postgres(tx) => run!(@bound $query($self.sql), $self.args).$method(&mut **tx).await,
        }
    };
    (@bound $query:expr, $args:expr) => {{
        let mut query = $query;
        for arg in $args {
            query = match arg {
                Arg::Bool(it) => query.bind(it),
                Arg::Int(it) => query.bind(it),
                Arg::Text(it) => query.bind(it),
            };
        }
        query
    }};
}

impl Query {
    pub fn bind(mut self, arg: impl Into<Arg>) -> Query {
        self.args.push(arg.into());
        self
    }

    /// Binds rows as one JSON parameter, to be unfolded by `json_each`.
    pub fn bind_json(self, rows: &impl serde::Serialize) -> Query {
        let text = serde_json::to_string(rows).expect("rows are plain structs with text keys, which always serialise");
        self.bind(text)
    }

    pub async fn one<T: Row>(self, tx: &mut Tx) -> Result<T> {
        run!(self, tx, sqlx::query_as, fetch_one)
    }

    pub async fn optional<T: Row>(self, tx: &mut Tx) -> Result<Option<T>> {
        run!(self, tx, sqlx::query_as, fetch_optional)
    }

    pub async fn all<T: Row>(self, tx: &mut Tx) -> Result<Vec<T>> {
        run!(self, tx, sqlx::query_as, fetch_all)
    }

    /// Runs a statement that returns no rows and says how many rows it changed.
    pub async fn run(self, tx: &mut Tx) -> Result<u64> {
        Ok(match &mut tx.driver {
            Driver::Sqlite(tx) => {
                run!(@bound sqlx::query(self.sql), self.args).execute(&mut **tx).await?.rows_affected()
            }
            Driver::Postgres(tx) => {
                run!(@bound sqlx::query(self.sql), self.args).execute(&mut **tx).await?.rows_affected()
            }
        })
    }
}

macro_rules! arg {
    ($($type:ty => $variant:ident),*) => {$(
        impl From<$type> for Arg { fn from(it: $type) -> Arg { Arg::$variant(Some(it.into())) } }
        impl From<Option<$type>> for Arg { fn from(it: Option<$type>) -> Arg { Arg::$variant(it.map(Into::into)) } }
    )*};
}
arg!(bool => Bool, i64 => Int, String => Text, &str => Text);

/// Lets a type that is text in every table (`Display` and `FromStr`) be bound and read.
macro_rules! text_column {
    ($name:ident) => {
        impl From<$name> for $crate::db::Arg {
            fn from(it: $name) -> $crate::db::Arg {
                $crate::db::Arg::Text(Some(it.to_string()))
            }
        }

        impl From<&$name> for $crate::db::Arg {
            fn from(it: &$name) -> $crate::db::Arg {
                $crate::db::Arg::Text(Some(it.to_string()))
            }
        }

        impl From<Option<$name>> for $crate::db::Arg {
            fn from(it: Option<$name>) -> $crate::db::Arg {
                $crate::db::Arg::Text(it.map(|it| it.to_string()))
            }
        }

        impl<DB: sqlx::Database> sqlx::Type<DB> for $name
        where
            String: sqlx::Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <String as sqlx::Type<DB>>::type_info()
            }

            fn compatible(ty: &DB::TypeInfo) -> bool {
                <String as sqlx::Type<DB>>::compatible(ty)
            }
        }

        impl<'r, DB: sqlx::Database> sqlx::Decode<'r, DB> for $name
        where
            &'r str: sqlx::Decode<'r, DB>,
        {
            fn decode(value: DB::ValueRef<'r>) -> Result<$name, sqlx::error::BoxDynError> {
                Ok(<&str as sqlx::Decode<'r, DB>>::decode(value)?.parse::<$name>()?)
            }
        }
    };
}
pub(crate) use text_column;

/// Lets a type that is a `bigint` in every table (a struct around one `i64`) be bound and read.
macro_rules! bigint_column {
    ($name:ident) => {
        impl From<$name> for $crate::db::Arg {
            fn from(it: $name) -> $crate::db::Arg {
                $crate::db::Arg::Int(Some(it.0))
            }
        }

        impl From<Option<$name>> for $crate::db::Arg {
            fn from(it: Option<$name>) -> $crate::db::Arg {
                $crate::db::Arg::Int(it.map(|it| it.0))
            }
        }

        impl<DB: sqlx::Database> sqlx::Type<DB> for $name
        where
            i64: sqlx::Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <i64 as sqlx::Type<DB>>::type_info()
            }

            fn compatible(ty: &DB::TypeInfo) -> bool {
                <i64 as sqlx::Type<DB>>::compatible(ty)
            }
        }

        impl<'r, DB: sqlx::Database> sqlx::Decode<'r, DB> for $name
        where
            i64: sqlx::Decode<'r, DB>,
        {
            fn decode(value: DB::ValueRef<'r>) -> Result<$name, sqlx::error::BoxDynError> {
                Ok($name(<i64 as sqlx::Decode<'r, DB>>::decode(value)?))
            }
        }
    };
}
pub(crate) use bigint_column;
bigint_column!(Millis);

/// Declares a struct whose fields are columns of the same names. (sqlx's own derive would build both drivers a second time
/// for the compiler.)
macro_rules! row {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type),* }

        $crate::db::row!(@decode $name, sqlx::sqlite::SqliteRow, $($field),*);
        $crate::db::row!(@decode $name, sqlx::postgres::PgRow, $($field),*);
    };
    (@decode $name:ident, $row:ty, $($field:ident),*) => {
        impl<'r> sqlx::FromRow<'r, $row> for $name {
            fn from_row(row: &'r $row) -> sqlx::Result<$name> {
                Ok($name { $($field: sqlx::Row::try_get(row, stringify!($field))?),* })
            }
        }
    };
}
pub(crate) use row;

/// Whether the same transaction may succeed when it is run again: a lock not had in time, a deadlock, a lost serialisation,
/// a connection that broke.
pub fn is_transient(error: &Error) -> bool {
    match error {
        Error::Database(it) => it.code().is_some_and(|code| {
            // 40001 serialization, 40P01 deadlock, 55P03 lock time-out, 25P03 idle in transaction, 57014 statement time-out,
            // 57P01 to 57P03 shut down, crashed, starting; 5 and 517 are SQLite's "busy".
            matches!(
                &*code,
                "40001" | "40P01" | "55P03" | "25P03" | "57014" | "57P01" | "57P02" | "57P03" | "5" | "517"
            )
        }),
        Error::Io(_) | Error::PoolTimedOut | Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether a unique constraint refused a row. Constraint names exist on PostgreSQL only, so nobody asks for them.
pub fn is_unique_violation(error: &Error) -> bool {
    matches!(error, Error::Database(it) if it.kind() == sqlx::error::ErrorKind::UniqueViolation)
}
