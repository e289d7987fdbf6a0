//! A database that a shop has used for a while is brought up to date, and means afterwards what it meant before.

use showcart::app::MIGRATIONS;
use showcart::db::{self, Db, Migrations, Turn, query};

use crate::harness::{Backend, empty_database, on_both};

on_both!(deliveries_that_were_passed_over_have_an_end);

/// A database of an older version.
struct Old {
    url: String,
    _folder: tempfile::TempDir,
}

impl Old {
    /// With what the schema was before the migration `version`, and these rows.
    async fn before(backend: Backend, version: i64, rows: &[&'static str]) -> Old {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = match backend {
            Backend::Sqlite => db::sqlite_url(&folder.path().join("showcart.sqlite")),
            Backend::Postgres => empty_database().await,
        };
        let known = MIGRATIONS.iter().position(|it| it.0 == version).expect("a version");
        let old: Migrations = &MIGRATIONS[..known];
        let db = Db::open(&url, old).await.unwrap();
        let mut tx = db.write(Turn::Control).await.unwrap();
        for row in rows {
            query(row).run(&mut tx).await.unwrap();
        }
        tx.commit().await.unwrap();
        db.close().await;
        Old { url, _folder: folder }
    }

    async fn brought_up_to_date(&self) -> Db {
        Db::open(&self.url, MIGRATIONS).await.unwrap()
    }
}

async fn deliveries_that_were_passed_over_have_an_end(backend: Backend) {
    let old = Old::before(
        backend,
        16,
        &[
            "insert into show (show_id, title, currency, test, guests_vote, created_at)
             values ('shw_1', 'Autumn', 'EUR', false, false, 0)",
            "insert into webhook (webhook_id, url, description, secret, version, created_at)
             values ('whk_1', 'https://shop.example/hooks', '', 'a', 1, 0)",
            "insert into sink_cursor (sink, show_id, epoch, seq, lease, leased_until, due_at, busy, asked)
             values ('whk_1', 'shw_1', 'now', 7, 1, 0, 0, true, 0)",
            "insert into webhook_redelivery (redelivery_id, webhook_id, show_id, epoch, after, upto)
             values ('rdl_open', 'whk_1', 'shw_1', 'now', 3, 5)",
            "insert into webhook_delivery (delivery_id, webhook_id, message_id, type, show_id, seq, event_at, redelivery_id, state,
                                           tries, attempts, begun_at, next_attempt_at)
             values ('waits', 'whk_1', 'shw_1.now.8', 'order.paid', 'shw_1', 8, 0, '', 'pending', 1, '[]', 1, 9),
                    ('passed', 'whk_1', 'shw_1.now.6', 'order.paid', 'shw_1', 6, 0, '', 'pending', 1, '[]', 2, 9),
                    ('restored', 'whk_1', 'shw_1.old.9', 'order.paid', 'shw_1', 9, 0, '', 'pending', 1, '[]', 3, 9),
                    ('asked', 'whk_1', 'shw_1.now.4', 'order.paid', 'shw_1', 4, 0, 'rdl_open', 'pending', 1, '[]', 4, 9),
                    ('through', 'whk_1', 'shw_1.now.2', 'order.paid', 'shw_1', 2, 0, 'rdl_open', 'pending', 1, '[]', 5, 9),
                    ('told', 'whk_1', 'shw_1.now.5', 'order.paid', 'shw_1', 5, 0, '', 'delivered', 0, '[]', 6, null),
                    ('tested', 'whk_1', 'tested', 'webhook.test', null, null, 0, '', 'failed', 0, '[]', 7, null)",
        ],
    )
    .await;
    let db = old.brought_up_to_date().await;
    let now: Vec<(String, String, Option<i64>)> =
        query("select delivery_id, state, next_attempt_at from webhook_delivery order by begun_at")
            .all(&mut db.read().await.unwrap())
            .await
            .unwrap();
    let now: Vec<(&str, &str, Option<i64>)> = now.iter().map(|(id, state, at)| (&**id, &**state, *at)).collect();
    assert_eq!(
        now,
        [
            ("waits", "pending", Some(9)),
            ("passed", "skipped", None),
            ("restored", "skipped", None),
            ("asked", "pending", Some(9)),
            ("through", "skipped", None),
            ("told", "delivered", None),
            ("tested", "failed", None),
        ]
    );
    db.close().await;
}
