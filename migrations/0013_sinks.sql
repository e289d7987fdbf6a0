-- Who follows every show's log, in order and at least once: how far each has come, and which node tells it; written by
-- sink.rs. Where there is no row, nothing was told yet.
create table sink_cursor (
    -- `redis`, or the id of a webhook.
    sink text not null,
    show_id text not null references show,
    -- The last place that was told. Of another epoch it is worth nothing.
    epoch text not null,
    seq bigint not null,
    -- Counts those who have told: only the last one may move the place.
    lease bigint not null,
    -- Whose turn it is, and until when; null when it is nobody's.
    node_id text,
    leased_until bigint not null,
    -- Nothing is told before.
    due_at bigint not null,
    -- Whether somebody has to look, besides where the log has news: it is underway, it has failed, or somebody asked.
    busy boolean not null,
    -- Counts what somebody asked for besides the log.
    asked bigint not null,
    primary key (sink, show_id)
);
create index sink_cursor_busy on sink_cursor (show_id) where busy;

-- Addresses of the shop to which events go; written by webhook/. Their secrets are made from the server's key and the names
-- here, so there is nothing here that could be stolen.
create table webhook (
    webhook_id text primary key,
    url text not null,
    -- JSON, a list; null for every type.
    types text,
    description text not null,
    -- Null while events go there. Written when somebody, or the server, disabled it.
    disabled_at bigint,
    disabled_reason text check (disabled_reason in ('by_hand', 'gone', 'failing')),
    -- Names the secret; the one before it goes on signing for a while.
    secret text not null,
    secret_before text,
    rotated_at bigint,
    -- Counts the changes, so that an answer from before one does not count after it.
    version bigint not null,
    created_at bigint not null,
    -- What is left of it is removed by `prune`.
    deleted_at bigint,
    check ((disabled_at is null) = (disabled_reason is null))
);
create index webhook_in_use on webhook (webhook_id) where deleted_at is null;

-- Parts of a log that somebody wants told again; a row ends when it has been. Written by webhook/.
create table webhook_redelivery (
    redelivery_id text primary key,
    webhook_id text not null references webhook,
    show_id text not null references show,
    epoch text not null,
    -- What is still to be told: after < seq <= upto.
    after bigint not null,
    upto bigint not null
);
create index webhook_redelivery_of on webhook_redelivery (webhook_id, show_id, redelivery_id);

-- What became of each event at each webhook; written by webhook/.
create table webhook_delivery (
    delivery_id text primary key,
    webhook_id text not null references webhook,
    -- The CloudEvents id.
    message_id text not null,
    type text not null,
    -- Null for test events, which stand in no log.
    show_id text,
    seq bigint,
    -- When it happened.
    event_at bigint not null,
    -- Empty when it was told because it happened.
    redelivery_id text not null,
    state text not null check (state in ('pending', 'delivered', 'failed')),
    -- Attempts that count against the schedule.
    tries bigint not null,
    -- The last attempts, JSON: [{at, status, error, took_ms}]
    attempts text not null,
    begun_at bigint not null,
    next_attempt_at bigint
);
create index webhook_delivery_of on webhook_delivery (webhook_id, begun_at, delivery_id);
create index webhook_delivery_old on webhook_delivery (begun_at);
create unique index webhook_delivery_pending on webhook_delivery (webhook_id, message_id, redelivery_id)
where state = 'pending';
