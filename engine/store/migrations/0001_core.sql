-- The core of Meterline: registry, day blocks, load, revisions, deliveries, quarantine, change feed.
-- {{PARTITION BY x}} is filled in by engine/store/storage.ts: monthly range partitions on plain PostgreSQL,
-- nothing on TimescaleDB, where the same tables become hypertables.
-- No foreign key and no trigger on the hot tables (design §4).

create table installation (
  only_row     boolean primary key default true check (only_row),
  storage_mode text not null check (storage_mode in ('partition', 'timescale')),
  created_at   timestamptz not null default now()
);

create table utility (
  utility_id     int generated always as identity primary key,
  id             text not null unique,
  zone           text,
  currency       text not null default 'USD',
  name           text,
  phone          text,
  links          jsonb not null default '{}',
  languages      text[] not null default '{en}',
  -- Raised by every registry write under the exclusive utility lock; workers compare it with their cached map.
  registry_epoch bigint not null default 1,
  -- Set in the transaction that settles the first read: from then on the zone is frozen.
  holds_reads    boolean not null default false,
  -- Days before this are refused inside the settling transaction; dropping advances it first.
  horizon        date,
  created_at     timestamptz not null default now()
);

create table api_key (
  key_id       uuid primary key,
  utility_id   int not null references utility,
  name         text not null,
  role         text not null check (role in ('head-end', 'portal', 'notify', 'viewer', 'operator')),
  sources      text[] not null default '{}',
  installation boolean not null default false,
  hash         bytea not null unique,
  created_at   timestamptz not null default now(),
  revoked_at   timestamptz
);

create table source (
  source_id  int generated always as identity primary key,
  utility_id int not null references utility,
  name       text not null,
  settings   jsonb not null default '{}',
  created_at timestamptz not null default now(),
  unique (utility_id, name)
);

create table account (
  account_id  int generated always as identity primary key,
  utility_id  int not null references utility,
  id          text not null,
  nickname    text,
  name        text,
  billing_day int check (billing_day between 1 and 31),
  zone        text,
  rate        jsonb,
  groups      jsonb not null default '{}',
  -- Number of live thresholds; settling locks exactly the touched accounts where it is not zero.
  thresholds  int not null default 0,
  epoch       bigint not null,
  created_at  timestamptz not null default now(),
  unique (utility_id, id)
);
create index account_epoch on account (utility_id, epoch);

create table billing_period (
  account_id int not null references account,
  start_day  date not null,
  end_day    date not null,
  primary key (account_id, start_day),
  check (end_day > start_day)
);

create table meter (
  meter_id   int generated always as identity primary key,
  utility_id int not null references utility,
  id         text not null,
  aliases    text[] not null default '{}',
  role       text not null default 'main' check (role in ('main', 'sub', 'check', 'generation')),
  status     text not null default 'active' check (status in ('active', 'disconnected', 'removed')),
  interval_s int,
  flows      text[],
  multiplier numeric not null default 1,
  service_kw numeric,
  epoch      bigint not null,
  created_at timestamptz not null default now(),
  unique (utility_id, id)
);
create index meter_epoch on meter (utility_id, epoch);

create table meter_alias (
  utility_id int not null,
  alias      text not null,
  meter_id   int not null references meter,
  primary key (utility_id, alias)
);
create index meter_alias_meter on meter_alias (meter_id);

create extension if not exists btree_gist;
create table meter_assignment (
  assignment_id int generated always as identity primary key,
  meter_id      int not null references meter,
  account_id    int not null references account,
  service_point text,
  from_at       timestamptz not null,
  to_at         timestamptz,
  check (to_at is null or to_at > from_at),
  exclude using gist (meter_id with =, tstzrange(from_at, to_at) with &&)
);
create index meter_assignment_account on meter_assignment (account_id);

-- quantity: 1 active energy (kWh). flow: 1 delivered, 2 received, 3 net.
create table channel (
  channel_id int generated always as identity primary key,
  utility_id int not null,
  meter_id   int not null,
  quantity   smallint not null,
  flow       smallint not null,
  interval_s int not null,
  -- First start and last end of any read ever settled; kept only while shared is true.
  first_at   timestamptz,
  last_end   timestamptz,
  -- True once the meter has a second channel of the same quantity and flow: then channel_span decides which counts.
  shared     boolean not null default false,
  unique (meter_id, quantity, flow, interval_s)
);

-- Where a channel counts, for channels that are shared; a channel that is alone counts always and has no row here.
create table channel_span (
  channel_id int not null references channel,
  meter_id   int not null,
  quantity   smallint not null,
  flow       smallint not null,
  from_at    timestamptz not null,
  to_at      timestamptz not null,
  primary key (channel_id, from_at),
  exclude using gist (meter_id with =, quantity with =, flow with =, tstzrange(from_at, to_at) with &&)
);

create table channel_day (
  channel_id  int not null,
  day         date not null,
  first_at    timestamptz not null,
  interval_s  int not null,
  exponent    smallint not null,
  total       bigint not null,
  peak        int,
  peak_slot   smallint,
  present     smallint not null,
  estimated   smallint not null,
  -- Version of every present slot; where slots differ, the greatest, and the versions lane has each.
  version     bigint not null,
  -- The delivery that created the block and when; later merges are in revision.
  delivery_no bigint not null,
  settled_at  timestamptz not null,
  -- Last commit that changed a value that already stood.
  restated_at timestamptz,
  vals        int[] not null,
  lane        smallint[],
  versions    bigint[],
  primary key (channel_id, day)
) {{PARTITION BY day}};

create table period_read (
  channel_id  int not null,
  start_at    timestamptz not null,
  end_at      timestamptz not null,
  exponent    smallint not null,
  value       bigint not null,
  lane        smallint not null default 0,
  version     bigint not null,
  delivery_no bigint not null,
  settled_at  timestamptz not null,
  primary key (channel_id, start_at, end_at)
);

-- group_id 0 is the whole utility. Energy in kWh, exact. coarse: energy of reads longer than an hour, booked at the
-- hour they start in and kept apart, because how they spread over their hours is not known.
create table system_load (
  utility_id int not null,
  group_id   int not null default 0,
  flow       smallint not null,
  hour       timestamptz not null,
  energy     numeric not null,
  coarse     numeric not null default 0,
  primary key (utility_id, group_id, flow, hour)
) {{PARTITION BY hour}};

create sequence delivery_no_seq;

-- delivery_id is a UUIDv7 whose milliseconds are accepted_at: an id alone finds its partition.
create table delivery (
  delivery_id     uuid not null,
  accepted_at     timestamptz not null,
  delivery_no     bigint not null,
  utility_id      int not null,
  source_id       int not null,
  kind            text not null check (kind in ('push', 'replay', 'withdrawal')),
  door            text not null,
  format          text,
  history         boolean not null default false,
  idempotency_key text,
  sha256          bytea,
  bytes           bigint not null default 0,
  version         bigint not null,
  complete        boolean not null,
  parts           int not null default 1,
  settled_at      timestamptz,
  received        bigint not null default 0,
  stored          bigint not null default 0,
  duplicate       bigint not null default 0,
  corrected       bigint not null default 0,
  outranked       bigint not null default 0,
  quarantined     bigint not null default 0,
  rejected        bigint not null default 0,
  snapped         bigint not null default 0,
  rounded         bigint not null default 0,
  first_at        timestamptz,
  last_end        timestamptz,
  alerts_raised   int not null default 0,
  alerts_retracted int not null default 0,
  -- The first 100 in full; problem_count counts all.
  problems        jsonb not null default '[]',
  problem_count   bigint not null default 0,
  withdraws       bigint,
  withdrawn_at    timestamptz,
  check (received = stored + duplicate + corrected + outranked + quarantined + rejected),
  primary key (delivery_id, accepted_at)
) partition by range (accepted_at);
create index delivery_no_idx on delivery (delivery_no);
create index delivery_recent on delivery (utility_id, accepted_at);

create table idempotency (
  utility_id  int not null,
  source_id   int not null,
  key         text not null,
  sha256      bytea not null,
  delivery_id uuid not null,
  at          timestamptz not null default now(),
  primary key (utility_id, source_id, key)
);
create index idempotency_at on idempotency (at);

-- The version that an identical body from the same source keeps (C4), so that an old file dropped again never undoes a correction.
create table body_version (
  source_id int not null,
  sha256    bytea not null,
  version   bigint not null,
  primary key (source_id, sha256)
);

-- One row per piece merged into a block that already stood, or that lost to it.
-- kind: 1 merged (old_* is what stood in the slots before), 2 outranked (old_* is what was offered and lost), 3 withdrawn.
create table revision (
  channel_id   int not null,
  day          date not null,
  at           timestamptz not null,
  seq          bigint generated always as identity,
  kind         smallint not null,
  delivery_no  bigint not null,
  slots        smallint[] not null,
  exponent     smallint not null,
  -- null where every slot was missing
  old_vals     int[],
  old_lane     smallint[],
  old_versions bigint[]
) partition by range (at);
create index revision_block on revision (channel_id, day, at);

create table quarantine (
  quarantine_id bigint generated always as identity primary key,
  utility_id    int not null,
  source_id     int not null,
  delivery_no   bigint not null,
  at            timestamptz not null default now(),
  reason        text not null,
  message       text not null,
  place         text,
  -- As written by the source; what a replay of an unknown meter is looked up by.
  meter         text,
  reads         int not null,
  version       bigint not null,
  history       boolean not null default false,
  -- The record as a canonical JSON block, where it could be decoded; else null, and raw has the bytes.
  record        text,
  raw           bytea,
  format        text,
  settled_by    bigint
);
create index quarantine_meter on quarantine (utility_id, meter) where settled_by is null;
create index quarantine_open on quarantine (utility_id, quarantine_id) where settled_by is null;
create index quarantine_delivery on quarantine (delivery_no);

-- Read only below the oldest running transaction, so that a reader never skips a late committer.
create table change (
  xid         xid8 not null default pg_current_xact_id(),
  seq         bigint generated always as identity,
  at          timestamptz not null default now(),
  utility_id  int not null,
  day         date not null,
  restated    boolean not null,
  account_ids int[] not null,
  delivery_no bigint not null,
  primary key (xid, seq)
);
create index change_at on change (at);

create table kafka_position (
  topic       text not null,
  kafka_partition int not null,
  consumer_group text not null,
  epoch       bigint not null default 0,
  next_offset bigint not null default 0,
  updated_at  timestamptz not null default now(),
  primary key (consumer_group, topic, kafka_partition)
);

create table audit (
  audit_id   bigint generated always as identity primary key,
  at         timestamptz not null default now(),
  utility_id int,
  actor      text not null,
  action     text not null,
  subject    text not null,
  detail     jsonb not null default '{}'
);
