-- A refund at the provider is one refund of ours.
create unique index refund_at_provider on refund (provider_refund_id) where provider_refund_id is not null;

-- The Idempotency-Key under which the order was asked for.
alter table orders add column key text;
