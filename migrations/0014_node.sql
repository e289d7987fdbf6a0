-- Nodes that are alive, written every two seconds by live/presence.rs where there may be several; rows older than a few seconds
-- are dead nodes.
create table node (
    node_id text primary key,
    at bigint not null
);
