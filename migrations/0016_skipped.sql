-- A delivery that was passed over is `skipped`, and not on its way for ever. Neither database changes the condition of a column
-- that both could name, so the table is made anew.
alter table webhook_delivery rename to webhook_delivery_of_before;

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
    state text not null check (state in ('pending', 'delivered', 'failed', 'skipped')),
    -- Attempts that count against the schedule.
    tries bigint not null,
    -- The last attempts, JSON: [{at, status, error, took_ms}]
    attempts text not null,
    begun_at bigint not null,
    next_attempt_at bigint
);
insert into webhook_delivery (delivery_id, webhook_id, message_id, type, show_id, seq, event_at, redelivery_id, state, tries,
                              attempts, begun_at, next_attempt_at)
select delivery_id, webhook_id, message_id, type, show_id, seq, event_at, redelivery_id, state, tries, attempts, begun_at,
       next_attempt_at
from webhook_delivery_of_before;
drop table webhook_delivery_of_before;

-- What was passed over until now: the log was told further, or is another one; what somebody asked for is through.
update webhook_delivery set state = 'skipped', next_attempt_at = null
where state = 'pending' and redelivery_id = '' and exists (
    select 1 from sink_cursor k
    where k.sink = webhook_delivery.webhook_id and k.show_id = webhook_delivery.show_id
      and (k.seq >= webhook_delivery.seq
           or webhook_delivery.message_id <> k.show_id || '.' || k.epoch || '.' || webhook_delivery.seq));
update webhook_delivery set state = 'skipped', next_attempt_at = null
where state = 'pending' and redelivery_id <> '' and not exists (
    select 1 from webhook_redelivery r
    where r.redelivery_id = webhook_delivery.redelivery_id and r.after < webhook_delivery.seq);

create index webhook_delivery_of on webhook_delivery (webhook_id, begun_at, delivery_id);
create index webhook_delivery_old on webhook_delivery (begun_at);
create unique index webhook_delivery_pending on webhook_delivery (webhook_id, show_id, redelivery_id, message_id)
where state = 'pending';
