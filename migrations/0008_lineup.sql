-- Products of line-ups as viewers were told of them; written by lineup.rs together with the entry that says so.
create table listing (
    show_id text not null references show,
    product_id text not null references product,
    position bigint not null,
    sku text not null,
    title text not null,
    variant text,
    price_minor bigint not null,
    compare_at_minor bigint,
    currency text not null,
    image_url text,
    primary key (show_id, product_id)
);

create index show_head_of_stage on show_head (show_id) where state <> 'ended';

-- What viewers have not been told yet: the line-ups of shows that have not ended, where they differ from `listing`.
create view listing_due as
select a.show_id, a.product_id, a.position, p.sku, p.title, p.variant, a.list_price_minor as price_minor,
       case when p.currency = s.currency then p.compare_at_minor end as compare_at_minor, s.currency, p.image_url
from show_head h
join show s on s.show_id = h.show_id
join allocation a on a.show_id = h.show_id
join product p on p.product_id = a.product_id
left join listing l on l.show_id = a.show_id and l.product_id = a.product_id
where h.state <> 'ended'
  and (l.product_id is null or l.position <> a.position or l.sku <> p.sku or l.title <> p.title
       or l.variant is distinct from p.variant or l.price_minor <> a.list_price_minor
       or l.compare_at_minor is distinct from case when p.currency = s.currency then p.compare_at_minor end
       or l.image_url is distinct from p.image_url);
