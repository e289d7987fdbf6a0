-- The ledger of the sandbox provider: a file of its own, never in a transaction of the shop. Written by its ledger.rs.
create table intent (
    intent_id text primary key,
    client_secret text not null,
    status text not null,
    amount_minor bigint not null,
    received_minor bigint not null,
    refunded_minor bigint not null,
    currency text not null,
    -- An object of texts, as the shop sent it.
    metadata text not null,
    -- Why the last attempt to pay failed.
    last_error text,
    created_at bigint not null,
    check (received_minor in (0, amount_minor)),
    check (refunded_minor between 0 and received_minor)
);

create table refund (
    refund_id text primary key,
    intent_id text not null references intent,
    amount_minor bigint not null,
    status text not null check (status in ('pending', 'succeeded', 'failed')),
    created_at bigint not null
);
create index refund_of_intent on refund (intent_id, refund_id);
create index refund_pending on refund (refund_id) where status = 'pending';

-- The first answer to every Idempotency-Key, for ever.
create table answer (
    key text primary key,
    fingerprint text not null,
    status bigint not null,
    body text not null
);

-- Where events go.
create table endpoint (
    name text primary key,
    url text not null,
    secret text not null
);

create table event (
    event_id text primary key,
    body text not null,
    created_at bigint not null
);

-- What has still to be delivered: a row goes when its endpoint has taken the event.
create table delivery (
    delivery_id text primary key,
    event_id text not null references event,
    endpoint text not null references endpoint,
    attempts bigint not null,
    -- Null while a fault holds it back.
    due_at bigint,
    -- Deliveries of one line go one after the other, the smallest place first.
    line text,
    place bigint not null
);
create index delivery_due on delivery (endpoint, due_at) where due_at is not null;
create index delivery_line on delivery (line, endpoint, place) where line is not null;
