-- What is asked for at every look stands in an index of its own: SQLite takes a partial index only for its very condition.
create index payment_creating on payment (payment_id) where state = 'creating';
create index payment_open on payment (payment_id) where state = 'open';
create index refund_failed on refund (order_id) where state = 'failed';

-- A refund at the provider is one refund of ours. Two of one amount may have claimed the same one, as long as the amount was
-- all that they were known by; the first keeps it.
update refund set provider_refund_id = null
where exists (select 1 from refund r where r.provider_refund_id = refund.provider_refund_id and r.refund_id < refund.refund_id);
create unique index refund_at_provider on refund (provider_refund_id) where provider_refund_id is not null;

-- The Idempotency-Key under which the order was asked for.
alter table orders add column key text;

-- Accepted by the provider, which may still say that it has failed.
alter table refund add column pending boolean not null default false;
create index refund_pending on refund (refund_id) where pending;
