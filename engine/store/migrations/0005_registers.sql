-- Reads that are no intervals: cumulative registers at an instant, and the consumption of periods longer than a day.
-- Never summed with intervals. What stands under a key is the greatest (rank, version, value) offered to it.

create table register_read (
  meter_id    int not null,
  -- As in channel: 1 active energy and so on; engine/quantity.ts.
  quantity    smallint not null,
  flow        smallint not null,
  -- Time-of-use label; empty: the total.
  tou         text not null default '',
  at          timestamptz not null,
  -- In the quantity's unit, exact.
  value       numeric not null,
  lane        smallint not null default 0,
  version     bigint not null,
  delivery_no bigint not null,
  settled_at  timestamptz not null,
  restated_at timestamptz,
  primary key (meter_id, quantity, flow, tou, at)
);
create index register_read_delivery on register_read (delivery_no);

-- Was keyed by channel, and a period has none: its length is no interval's.
drop table period_read;
create table period_read (
  meter_id    int not null,
  quantity    smallint not null,
  flow        smallint not null,
  tou         text not null default '',
  start_at    timestamptz not null,
  end_at      timestamptz not null,
  value       numeric not null,
  lane        smallint not null default 0,
  version     bigint not null,
  delivery_no bigint not null,
  settled_at  timestamptz not null,
  restated_at timestamptz,
  primary key (meter_id, quantity, flow, tou, start_at, end_at)
);
create index period_read_delivery on period_read (delivery_no);

-- Every offer to a register or period that does not stand: replaced by a greater one, or outranked when it came.
create table register_revision (
  revision_id bigint generated always as identity primary key,
  meter_id    int not null,
  quantity    smallint not null,
  flow        smallint not null,
  tou         text not null,
  at          timestamptz not null,
  -- Start of a period; null: a register.
  from_at     timestamptz,
  value       numeric not null,
  lane        smallint not null,
  version     bigint not null,
  delivery_no bigint not null,
  -- True: it stood until then; false: it lost when it was offered.
  replaced    boolean not null,
  settled_at  timestamptz not null
);
create index register_revision_key on register_revision (meter_id, at);

-- Channels may measure other things than energy now: the analysts' views stay energy.
create or replace view usage_interval as
select u.id as utility, m.id as meter, m.role,
       case c.flow when 1 then 'delivered' when 2 then 'received' else 'net' end as flow,
       d.day,
       d.first_at + make_interval(secs => (s.slot - 1) * d.interval_s::float8) as start_at,
       d.interval_s,
       trim_scale(s.val * (10::numeric ^ d.exponent)) as kwh,
       case coalesce(d.lane[s.slot], 0) & 7
         when 1 then 'estimated' when 2 then 'questionable' when 4 then 'validated' when 5 then 'edited' else 'actual'
       end as quality,
       u.zone, m.meter_id, c.channel_id
  from channel_day d
  join channel c using (channel_id)
  join meter m using (meter_id)
  join utility u on u.utility_id = m.utility_id
 cross join lateral unnest(d.vals) with ordinality as s(val, slot)
 where s.val is not null and c.quantity = 1
   and (not c.shared or exists (
         select from channel_span p
          where p.channel_id = c.channel_id
            and d.first_at + make_interval(secs => (s.slot - 1) * d.interval_s::float8) >= p.from_at
            and d.first_at + make_interval(secs => (s.slot - 1) * d.interval_s::float8) < p.to_at));

create or replace view usage_day as
select u.id as utility, m.id as meter, m.role,
       case c.flow when 1 then 'delivered' when 2 then 'received' else 'net' end as flow,
       d.day, trim_scale(d.total * (10::numeric ^ d.exponent)) as kwh, d.present::bigint as present, d.estimated::bigint as estimated
  from channel_day d
  join channel c using (channel_id)
  join meter m using (meter_id)
  join utility u on u.utility_id = m.utility_id
 where not c.shared and c.quantity = 1 and d.present > 0
union all
select i.utility, i.meter, i.role, i.flow, i.day, sum(i.kwh), count(*), count(*) filter (where i.quality = 'estimated')
  from usage_interval i
  join channel c on c.channel_id = i.channel_id and c.shared
 group by i.utility, i.meter, i.role, i.flow, i.day;
