-- How a live show goes, once a second as each node sees it; written by pulse.rs.
create table sample (
    show_id text not null references show,
    at bigint not null,
    node_id text not null,
    -- Open sockets of the show, and how many of all on the node read too slowly.
    viewers bigint not null,
    viewers_behind bigint not null,
    -- Requests for units in this second: how they were answered, and how long that took.
    granted bigint not null,
    refused bigint not null,
    failed bigint not null,
    wait_p50_ms bigint,
    wait_p99_ms bigint,
    -- Calls of the payment provider in this second whose outcome is unknown, on the node; payments that wait to be opened.
    provider_errors bigint not null,
    provider_line bigint not null,
    -- The gauge `gmv`, JSON; null before the first order.
    totals text,
    primary key (show_id, at, node_id)
);

-- What happened on stage, by its time; see desk.rs.
create index entry_mark on entry (show_id, at)
where audience = 'all' and type in ('show.started', 'show.ended', 'pin.set', 'poll.opened', 'poll.closed', 'sale.started', 'sale.ended', 'sale.sold_out');
