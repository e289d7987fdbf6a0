-- How often units of a show were granted; written by checkout/store.rs. A node that finds another number than it left knows
-- that another node has granted units, and to whom is to be read.
alter table show add column grants bigint not null default 0;
