-- Who ended a sale by hand, and with which Idempotency-Key: a request that is repeated is told from one that came too late.
alter table sale add column ended_by text;
alter table sale add column ended_key text;
