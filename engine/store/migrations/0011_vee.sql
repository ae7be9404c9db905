-- Validation and estimation: what is to be judged, what channels are used to, what was found, what was filled in and why.

-- False: commits leave nothing to be judged.
alter table utility add column validates boolean not null default true;
-- Up to and with this local day the gaps of due days were looked for.
alter table utility add column gaps_swept date;

-- What a utility sets over the defaults; the greatest version is in force, version 0 is the defaults.
create table vee_rule_set (
  utility_id int not null references utility,
  version    int not null,
  hash       text not null,
  patch      jsonb not null,
  actor      text not null,
  created_at timestamptz not null default now(),
  primary key (utility_id, version)
);

-- Days of channels that changed and are to be judged: written by the commit that changes them, a thousand to a row.
create table vee_pending (
  pending_id  bigint generated always as identity primary key,
  utility_id  int not null,
  day         date not null,
  channel_ids int[] not null
);
create index vee_pending_utility on vee_pending (utility_id, pending_id);

-- Figures of the 28 days before a fortnight; null where they were too few. A function of the stored days alone.
create table channel_baseline (
  channel_id int not null,
  period     int not null,
  figures    float8[],
  primary key (channel_id, period)
);

create table day_flag (
  flag_id    bigint generated always as identity primary key,
  utility_id int not null,
  channel_id int not null,
  day        date not null,
  rule       text not null,
  severity   text not null check (severity in ('warning', 'exception')),
  -- Empty: the day as a whole.
  slots      smallint[] not null,
  inputs     jsonb not null,
  parameters jsonb not null,
  rule_set   int not null,
  flagged_at timestamptz not null,
  -- An edit takes the flag away when the day is judged again, unless the rule still holds.
  state      text not null default 'open' check (state in ('open', 'accepted')),
  decided_by text,
  decided_at timestamptz,
  reason     text,
  unique (channel_id, day, rule)
);
create index day_flag_queue on day_flag (utility_id, flag_id) where state = 'open';
create index day_flag_day on day_flag (utility_id, day);

-- Channel-days that lack reads or hold the engine's estimates: due where touched is beyond done.
create table vee_gap (
  channel_id int not null,
  day        date not null,
  utility_id int not null,
  touched    int not null default 1,
  done       int not null default 0,
  primary key (channel_id, day)
);
create index vee_gap_due on vee_gap (utility_id, channel_id) where touched > done;

-- What the estimates of a channel's day rest on.
create table estimate_basis (
  channel_id  int not null,
  day         date not null,
  delivery_no bigint not null,
  basis       jsonb not null,
  rule_set    int not null,
  primary key (channel_id, day, delivery_no)
);

-- Who made a delivery by hand, and why.
create table delivery_reason (
  delivery_no bigint primary key,
  actor       text not null,
  reason      text not null
);

alter table delivery drop constraint delivery_kind_check;
alter table delivery add constraint delivery_kind_check check (kind in ('push', 'replay', 'withdrawal', 'estimate', 'edit'));
