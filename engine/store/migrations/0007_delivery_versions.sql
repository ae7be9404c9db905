-- Versions of deliveries whose source states none (design C4): the database's clock in microseconds, and never less than
-- one that was given before, so that neither a clock that is set back nor processes whose clocks differ let a correction
-- lose against what it corrects.
create sequence delivery_version;
select setval('delivery_version', greatest(1, max(version))) from body_version;

-- The first of n consecutive versions. Serialised by an advisory lock that lasts as long as the calling transaction.
create function next_delivery_versions(n int) returns bigint language plpgsql as $$
declare
  first bigint;
begin
  perform pg_advisory_xact_lock(19715, 0);
  select greatest(last_value + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint) into first from delivery_version;
  perform setval('delivery_version', first + n - 1);
  return first;
end $$;
