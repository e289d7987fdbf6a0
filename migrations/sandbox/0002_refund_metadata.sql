-- An object of texts, as the shop sent it: what it calls the refund stands there.
alter table refund add column metadata text not null default '{}';
