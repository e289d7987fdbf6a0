-- Banners; written by overlay.rs. What is on stage has no `ended_at`.
create table banner (
    overlay_id text primary key,
    show_id text not null references show,
    -- Counts the changes; a command names the one it means to change.
    version bigint not null,
    text text not null,
    link text,
    style text not null,
    shown_at bigint not null,
    -- Shown until the host hides it when null.
    ends_at bigint,
    ended_at bigint,
    ended_reason text check (ended_reason in ('by_hand', 'by_time', 'show_ended')),
    check ((ended_at is null) = (ended_reason is null))
);
create index banner_on_stage on banner (show_id) where ended_at is null;

-- Countdowns; written by overlay.rs.
create table timer (
    overlay_id text primary key,
    show_id text not null references show,
    version bigint not null,
    label text not null,
    started_at bigint not null,
    ends_at bigint not null,
    ended_at bigint,
    ended_reason text check (ended_reason in ('by_hand', 'by_time', 'show_ended')),
    check ((ended_at is null) = (ended_reason is null))
);
create index timer_on_stage on timer (show_id) where ended_at is null;

-- Polls and their tallies; written by ballot.rs. Every batch of votes updates its row: the update is the lock under which
-- votes are counted and the poll is closed.
create table poll (
    poll_id text primary key,
    show_id text not null references show,
    question text not null,
    -- JSON: a list of texts.
    choices text not null,
    -- JSON: votes for each of the choices, and their sum.
    counts text not null,
    total bigint not null,
    opened_at bigint not null,
    -- Open until the host closes it when null.
    ends_at bigint,
    closed_at bigint,
    closed_reason text check (closed_reason in ('by_hand', 'by_time', 'show_ended')),
    check ((closed_at is null) = (closed_reason is null))
);
create index poll_of_show on poll (show_id);
create index poll_open on poll (show_id) where closed_at is null;

-- Votes that count, one per voter; written by ballot.rs and never changed.
create table vote (
    -- Without a reference, which would be looked up for each vote: whoever writes votes has locked the poll's row.
    poll_id text not null,
    -- The shop's name for the viewer, or the guest's id.
    voter_id text not null,
    choice bigint not null,
    -- When it arrived.
    at bigint not null,
    primary key (poll_id, voter_id)
);

-- Guests' votes by the address that they came from; written by ballot.rs.
create table vote_address (
    poll_id text not null references poll,
    -- Keyed digest of poll and address: says nothing about anybody elsewhere.
    address text not null,
    votes bigint not null,
    primary key (poll_id, address)
);
