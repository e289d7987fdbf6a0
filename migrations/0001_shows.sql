-- Written by show.rs.
create table show (
    show_id text primary key,
    title text not null,
    currency text not null,
    -- A test show works like any other; totals and sinks leave it out.
    test boolean not null,
    guests_vote boolean not null,
    scheduled_at bigint,
    started_at bigint,
    ended_at bigint,
    created_at bigint not null
);

-- The head of a show's log, written by live/log.rs. Narrow, because every change of the show updates it: the update is
-- the lock under which sequence numbers are given out, so their order is the order of commits.
create table show_head (
    show_id text primary key references show,
    -- Random; a new one means that positions and versions from before are worth nothing.
    epoch text not null,
    last_seq bigint not null,
    state text not null check (state in ('scheduled', 'live', 'ended'))
);

-- The log, written by live/log.rs. `audience`: all, desk, or own (then `buyer_id` says whose).
create table entry (
    show_id text not null references show,
    seq bigint not null,
    audience text not null check (audience in ('all', 'desk', 'own')),
    buyer_id text,
    type text not null,
    at bigint not null,
    data text not null,
    -- What may be said once only, such as `order.paid ord_…`.
    once text,
    primary key (show_id, seq),
    check ((audience = 'own') = (buyer_id is not null))
);
create unique index entry_once on entry (show_id, once) where once is not null;

-- Numbers of which only the latest value matters, written by live/log.rs.
create table gauge (
    show_id text not null references show,
    name text not null,
    audience text not null check (audience in ('all', 'desk')),
    version bigint not null,
    value text not null,
    at bigint not null,
    primary key (show_id, name)
);

-- Open sockets of each node, written once a second by live/presence.rs; rows older than a few seconds are dead nodes.
create table presence (
    node_id text not null,
    show_id text not null references show,
    sockets bigint not null,
    at bigint not null,
    primary key (show_id, node_id)
);

-- Answers to POSTs, kept so that a repeated request gets the same answer; written by request.rs in the transaction
-- of the change itself.
create table idempotency (
    -- Who asked: role and subject.
    caller text not null,
    key text not null,
    fingerprint text not null,
    status bigint not null,
    body text not null,
    at bigint not null,
    primary key (caller, key)
);

-- By how much tests have moved the clock; read only by builds that are made for tests.
create table clock_offset (
    only_row bigint primary key check (only_row = 1),
    offset_ms bigint not null
);

-- The catalogue, written by product.rs. One row is one SKU; variants of a thing share a handle.
create table product (
    product_id text primary key,
    sku text not null unique,
    handle text not null,
    title text not null,
    variant text,
    description text not null,
    price_minor bigint not null check (price_minor > 0),
    compare_at_minor bigint,
    currency text not null,
    image_url text
);

-- What is on screen; written by pin.rs.
create table pin (
    show_id text primary key references show,
    version bigint not null,
    -- Null when nothing is pinned. The pin as viewers see it, JSON: it must not change when the catalogue does.
    pinned text
);
