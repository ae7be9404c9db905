-- Rows for analysts: one row per interval, hour, day and month of what counts (channel_span), in exact kWh.
-- A meter's reads, whoever it served; join meter_assignment for accounts.

create view usage_interval as
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
 where s.val is not null
   and (not c.shared or exists (
         select from channel_span p
          where p.channel_id = c.channel_id
            and d.first_at + make_interval(secs => (s.slot - 1) * d.interval_s::float8) >= p.from_at
            and d.first_at + make_interval(secs => (s.slot - 1) * d.interval_s::float8) < p.to_at));

-- Hours of the local clock: 3,600 s each, the repeated one twice. Reads longer than an hour stand at the hour they start in.
create view usage_hour as
select utility, meter, role, flow, day,
       start_at - make_interval(secs => mod(
         (extract(epoch from start_at) + extract(epoch from (start_at at time zone zone) - (start_at at time zone 'UTC'))), 3600)::float8
       ) as hour,
       sum(kwh) as kwh, count(*) as present, count(*) filter (where quality = 'estimated') as estimated
  from usage_interval
 group by utility, meter, role, flow, day, 6;

-- The day's own aggregates where one channel counts; the slots where several share the meter.
create view usage_day as
select u.id as utility, m.id as meter, m.role,
       case c.flow when 1 then 'delivered' when 2 then 'received' else 'net' end as flow,
       d.day, trim_scale(d.total * (10::numeric ^ d.exponent)) as kwh, d.present::bigint as present, d.estimated::bigint as estimated
  from channel_day d
  join channel c using (channel_id)
  join meter m using (meter_id)
  join utility u on u.utility_id = m.utility_id
 where not c.shared and d.present > 0
union all
select i.utility, i.meter, i.role, i.flow, i.day, sum(i.kwh), count(*), count(*) filter (where i.quality = 'estimated')
  from usage_interval i
  join channel c on c.channel_id = i.channel_id and c.shared
 group by i.utility, i.meter, i.role, i.flow, i.day;

create view usage_month as
select utility, meter, role, flow, date_trunc('month', day)::date as month,
       sum(kwh) as kwh, sum(present) as present, sum(estimated) as estimated, count(*) as days
  from usage_day
 group by utility, meter, role, flow, 5;
