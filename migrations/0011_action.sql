-- Who did what at the control panel, written by live/log.rs in the change itself.
create table action (
    show_id text not null references show,
    -- From 1, in the order of the changes.
    number bigint not null,
    at bigint not null,
    -- Subject and role of the token.
    by_whom text not null,
    role text not null,
    -- What was done, `pin.set`, and with what: a title, a text, an id.
    action text not null,
    what text not null,
    primary key (show_id, number)
);
