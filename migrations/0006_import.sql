-- Catalogues that came over HTTP; written by import.rs. A job's counts commit together with the rows that they count.
create table import_job (
    import_id text primary key,
    -- `running` from the moment the file is here; `refused` is a file of which nothing was applied.
    state text not null check (state in ('running', 'done', 'refused', 'failed')),
    rows_read bigint not null,
    created bigint not null,
    changed bigint not null,
    unchanged bigint not null,
    refused bigint not null,
    -- The first refusals, [{line, sku, reason}].
    refusals text not null,
    -- Why a job failed.
    error text,
    started_at bigint not null,
    -- Whoever does the work says so once a second; a job that is silent for longer belongs to a process that died.
    beat_at bigint not null,
    ended_at bigint
);
create index import_running on import_job (beat_at) where state = 'running';
