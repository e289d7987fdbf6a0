-- A refund at the provider is one refund of ours.
create unique index refund_at_provider on refund (provider_refund_id) where provider_refund_id is not null;
