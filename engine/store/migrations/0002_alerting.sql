-- Thresholds, alerts, contacts and the outbox of messages.

create table threshold (
  threshold_id  uuid primary key,
  utility_id    int not null,
  account_id    int not null references account,
  kind          text not null,
  flow          smallint not null default 1,
  meter_id      int,
  -- kWh
  limit_value   numeric not null,
  version       int not null default 1,
  -- The version judges periods that end after this.
  version_from  timestamptz not null default now(),
  contacts      uuid[],
  params        jsonb not null default '{}',
  created_at    timestamptz not null default now(),
  deleted_at    timestamptz
);
create index threshold_account on threshold (account_id) where deleted_at is null;

-- One row per threshold version and period (C6), cycling raised <-> retracted.
create table alert (
  alert_id      uuid primary key,
  utility_id    int not null,
  account_id    int not null,
  threshold_id  uuid not null references threshold,
  version       int not null,
  kind          text not null,
  period_start  timestamptz not null,
  period_end    timestamptz not null,
  limit_value   numeric not null,
  value         numeric not null,
  crossed_at    timestamptz,
  raised_at     timestamptz not null,
  state         text not null check (state in ('raised', 'retracted')),
  -- Raised by each change of state: names the step that a message belongs to.
  step          int not null default 1,
  history       jsonb not null,
  expected      int not null default 0,
  present       int not null default 0,
  estimated     int not null default 0,
  unique (threshold_id, version, period_start)
);
create index alert_account on alert (account_id, raised_at);

create table contact (
  contact_id   uuid primary key,
  utility_id   int not null,
  account_id   int not null references account,
  channel      text not null check (channel in ('email', 'sms')),
  -- AES-256-GCM under SECRET_KEY; the hash finds an address again without decrypting.
  address_enc  bytea not null,
  address_hash bytea not null,
  masked       text not null,
  label        text,
  language     text not null default 'en',
  state        text not null check (state in ('pending', 'active', 'stopped', 'bounced')),
  code_hash    bytea,
  code_expires timestamptz,
  code_tries   int not null default 0,
  codes_sent   int not null default 0,
  last_code_at timestamptz,
  consent      jsonb not null default '{}',
  verified_at  timestamptz,
  created_at   timestamptz not null default now(),
  deleted_at   timestamptz
);
create index contact_address on contact (utility_id, channel, address_hash);
create unique index contact_once on contact (account_id, channel, address_hash) where deleted_at is null;

-- The outbox: written in the transaction that raises the alert, sent afterwards.
create table message (
  message_id  uuid primary key,
  utility_id  int not null,
  account_id  int,
  contact_id  uuid references contact,
  alert_id    uuid references alert,
  alert_step  int,
  purpose     text not null check (purpose in ('alert', 'correction', 'code')),
  channel     text not null check (channel in ('email', 'sms')),
  -- Subject and text, sealed like addresses: a code or a usage figure is personal.
  body_enc    bytea not null,
  state       text not null check (state in ('pending', 'sending', 'sent', 'failed', 'dropped', 'captured', 'unknown')),
  attempts    int not null default 0,
  next_at     timestamptz not null default now(),
  -- Whoever holds the lease alone may hand the message over.
  lease       uuid,
  leased_until timestamptz,
  -- Written just before the first byte may reach the other side: a lease that ran out after this is `unknown`.
  handed_at   timestamptz,
  last_error  text,
  created_at  timestamptz not null default now(),
  done_at     timestamptz,
  -- At most one message per alert step and contact.
  unique (alert_id, alert_step, contact_id, purpose)
);
create index message_due on message (next_at) where state in ('pending', 'sending');
create index message_alert on message (alert_id);
create index message_contact on message (contact_id, created_at);
create index message_account on message (utility_id, created_at);
