-- Up to where the log of a show that ended long ago has been archived and taken out of the database; written by show.rs.
alter table show add column pruned_seq bigint;
