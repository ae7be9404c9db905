-- Every kind of threshold, what waits to be judged, and dated rates.

-- Kinds without a limit (unusual, no-usage) have none.
alter table threshold alter column limit_value drop not null;
-- Only the hours of this time-of-use period of the account's rate.
alter table threshold add column tou_period text;

-- kWh, kW or a currency.
alter table alert add column unit text not null default 'kWh';
alter table alert add column flow smallint not null default 1;
-- What was compared with, or the range of a projection.
alter table alert add column detail jsonb;

-- Estimates that the engine made may raise alerts.
alter table utility add column alert_on_estimates boolean not null default false;

-- Account-days to be judged on a schedule: written by the commit that touched them, or put back until time has passed.
-- Whoever judges a row deletes it in the same transaction.
create table threshold_due (
  due_id      bigint generated always as identity primary key,
  utility_id  int not null,
  due_at      timestamptz not null,
  from_day    date not null,
  -- exclusive
  to_day      date not null,
  -- False: only what settling does not judge itself.
  every_kind  boolean not null,
  -- A history load raises nothing.
  history     boolean not null,
  account_ids int[] not null
);
create index threshold_due_at on threshold_due (utility_id, due_at);

create table rate (
  rate_id    int generated always as identity primary key,
  utility_id int not null references utility,
  id         text not null,
  name       text,
  created_at timestamptz not null default now(),
  unique (utility_id, id)
);

-- A version holds from its local day until the next one's.
create table rate_version (
  rate_id  int not null references rate,
  from_day date not null,
  body     jsonb not null,
  made_at  timestamptz not null default now(),
  primary key (rate_id, from_day)
);

-- Which rate an account has from which local day: its public id, because accounts may be registered before rates.
create table account_rate (
  account_id int not null references account,
  from_day   date not null,
  rate       text not null,
  primary key (account_id, from_day)
);
create index account_rate_rate on account_rate (rate);
-- A day that the month does not have falls into the next one.
insert into account_rate (account_id, from_day, rate)
select account_id, (left(rate->>'from', 8) || '01')::date + substr(rate->>'from', 9, 2)::int - 1, rate->>'id' from account
 where rate->>'from' ~ '^\d{4}-(0[1-9]|1[0-2])-\d{2}' and left(rate->>'from', 4) <> '0000';
