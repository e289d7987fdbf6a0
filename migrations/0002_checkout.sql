-- ENGINE 2. Everything here is written by checkout/store.rs, which is told what to write by checkout/rules.rs; the checks
-- are the last defence.

-- A product's units across all shows.
create table stock (
    product_id text primary key references product,
    -- What has not been sold.
    on_hand bigint not null check (on_hand >= 0),
    -- What shows have: the sum of (allocated - sold).
    fenced bigint not null default 0 check (fenced >= 0),
    check (fenced <= on_hand)
);

-- The line-up: products of a show and the units that are ring-fenced for it.
create table allocation (
    show_id text not null references show,
    product_id text not null references product,
    allocated bigint not null,
    held bigint not null check (held >= 0),
    sold bigint not null check (sold >= 0),
    -- What the end of the show gave back and a tap from before the end may still take.
    spare bigint not null check (spare >= 0),
    list_price_minor bigint not null check (list_price_minor > 0),
    position bigint not null,
    primary key (show_id, product_id),
    check (held + sold <= allocated)
);

create table sale (
    sale_id text primary key,
    show_id text not null references show,
    product_id text not null,
    price_minor bigint not null check (price_minor > 0),
    cap bigint not null,
    limit_per_buyer bigint not null check (limit_per_buyer > 0),
    starts_at bigint not null,
    ends_at bigint,
    state text not null check (state in ('armed', 'running', 'ended')),
    ended_at bigint,
    ended_reason text,
    held bigint not null check (held >= 0),
    sold bigint not null check (sold >= 0),
    sold_out boolean not null,
    version bigint not null,
    -- The product as viewers saw it first, JSON.
    card text,
    foreign key (show_id, product_id) references allocation,
    check (held + sold <= cap)
);
create index sale_of_show on sale (show_id);
create unique index sale_of_product on sale (show_id, product_id) where state <> 'ended';

create table hold (
    hold_id text primary key,
    show_id text not null references show,
    buyer_id text not null,
    key text not null,
    fingerprint text not null,
    state text not null check (state in ('active', 'paying', 'committed', 'released', 'expired')),
    -- [{product_id, sale_id, quantity, returned, unit_price_minor}]
    lines text not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    granted_at bigint not null,
    expires_at bigint not null,
    ended_at bigint,
    late_possible boolean not null,
    seen text,
    metadata text
);
-- One grant per show, buyer and key; the only index with keys that clients make.
create unique index hold_grant on hold (show_id, buyer_id, key);
create index hold_due on hold (show_id, expires_at) where state = 'active';

-- Plural, because the singular is a word of SQL.
create table orders (
    order_id text primary key,
    show_id text not null references show,
    hold_id text not null unique references hold,
    buyer_id text not null,
    state text not null check (state in ('pending', 'paid', 'canceled', 'unfulfilled')),
    amount_minor bigint not null,
    currency text not null,
    refunded_minor bigint not null check (refunded_minor >= 0 and refunded_minor <= amount_minor),
    created_at bigint not null,
    paid_at bigint,
    paid_by text,
    test boolean not null
);
create index orders_of_show on orders (show_id, order_id);
create index orders_of_buyer on orders (buyer_id, order_id);

create table payment (
    payment_id text primary key,
    show_id text not null references show,
    order_id text not null references orders,
    intent_id text,
    client_secret text,
    state text not null check (state in ('creating', 'open', 'succeeded', 'canceled')),
    attempt bigint not null,
    queued_at bigint not null,
    queue_deadline bigint not null,
    opened_at bigint,
    deadline bigint
);
create index payment_of_order on payment (order_id);
create index payment_of_intent on payment (intent_id) where intent_id is not null;
create index payment_unsettled on payment (payment_id) where state in ('creating', 'open');

create table refund (
    refund_id text primary key,
    show_id text not null references show,
    order_id text not null references orders,
    payment_id text not null references payment,
    intent_id text,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    restock boolean not null,
    reason text not null,
    state text not null check (state in ('requested', 'accepted', 'failed')),
    provider_refund_id text,
    requested_at bigint not null
);
create index refund_of_order on refund (order_id);
create index refund_requested on refund (refund_id) where state = 'requested';
