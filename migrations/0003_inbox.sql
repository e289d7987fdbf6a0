-- What the payment provider told us, kept before it is believed; written by payment/inbox.rs.
create table inbox (
    -- The provider's, so that an event that comes twice is stored once.
    event_id text primary key,
    type text not null,
    intent_id text,
    refund_id text,
    body text not null,
    received_at bigint not null,
    processed_at bigint
);
create index inbox_pending on inbox (received_at, event_id) where processed_at is null;
