-- Where the picture comes from; written by show.rs.
alter table show add column video_url text;
