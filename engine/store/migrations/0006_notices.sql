-- What members are told beside alerts, how they choose it, and the proof of what they agreed to.

alter table contact
  -- By category: now, digest or off; a category that is not named follows the consent.
  add column modes jsonb not null default '{}',
  -- Categories that the holder of the address ended (STOP, unsubscribe): nobody else can switch them on again.
  add column stopped text[] not null default '{}';

create table account_preference (
  account_id  int primary key references account,
  -- By channel; what is missing follows the default, null is none.
  quiet_hours jsonb not null default '{}'
);

-- Append only, and kept when a member is erased: it holds a hash of the address and no name.
create table consent_event (
  consent_id   bigint generated always as identity primary key,
  utility_id   int not null,
  account      text,
  contact_id   uuid,
  channel      text not null,
  address_hash bytea not null,
  action       text not null,
  categories   text[] not null,
  actor        text not null,
  -- How: a web form, a text message, a mail program's unsubscribe button.
  via          text,
  -- What was agreed to, in the words that were shown.
  wording      text,
  at           timestamptz not null
);
create index consent_event_contact on consent_event (contact_id, consent_id);
create index consent_event_address on consent_event (utility_id, address_hash, consent_id);

create table notice (
  notice_id       uuid primary key,
  utility_id      int not null references utility,
  idempotency_key text not null,
  body_hash       bytea not null,
  category        text not null,
  template        text not null,
  params          jsonb not null,
  audience        jsonb not null,
  expires_at      timestamptz,
  accounts        int not null,
  messages        int not null,
  actor           text not null,
  created_at      timestamptz not null,
  unique (utility_id, idempotency_key)
);

alter table message
  drop constraint message_purpose_check,
  add constraint message_purpose_check check (purpose in ('alert', 'correction', 'code', 'notice', 'reply')),
  add column category text not null default 'usage',
  -- Goes out together with the contact's other ones.
  add column digest boolean not null default false,
  add column notice_id uuid,
  -- Not worth telling after this.
  add column expires_at timestamptz,
  add constraint message_notice_once unique (notice_id, contact_id);
create index message_digest on message (contact_id) where digest and state in ('pending', 'sending');
create index message_state on message (utility_id, state, created_at);

-- Texts that came in, so that a repeated delivery by the gateway does nothing.
create table sms_inbound (
  sid        text primary key,
  utility_id int,
  word       text not null,
  at         timestamptz not null
);

-- A stretch without power, made of meter events.
create table outage (
  outage_id  uuid primary key,
  utility_id int not null references utility,
  meter_id   int not null references meter,
  account_id int not null references account,
  down_at    timestamptz not null,
  up_at      timestamptz,
  state      text not null check (state in ('waiting', 'told', 'over', 'ignored')),
  unique (meter_id, down_at)
);
create index outage_open on outage (utility_id) where state in ('waiting', 'told');

create table webhook (
  webhook_id uuid primary key,
  utility_id int not null references utility,
  id         text not null,
  url        text not null,
  events     text[] not null,
  secret_enc bytea not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  unique (utility_id, id)
);

create table webhook_delivery (
  delivery_id  uuid primary key,
  webhook_id   uuid not null references webhook on delete cascade,
  utility_id   int not null,
  event        text not null,
  payload      jsonb not null,
  state        text not null check (state in ('pending', 'sending', 'sent', 'failed')),
  attempts     int not null default 0,
  next_at      timestamptz not null,
  lease        uuid,
  leased_until timestamptz,
  last_status  int,
  last_error   text,
  created_at   timestamptz not null,
  done_at      timestamptz
);
create index webhook_delivery_due on webhook_delivery (next_at) where state in ('pending', 'sending');
create index webhook_delivery_list on webhook_delivery (webhook_id, created_at);

-- How a contact wants a category: what it stopped is off, then its own choice, then its consent.
create function contact_mode(c contact, category text) returns text language sql immutable as $$
  select case when category = any(c.stopped) then 'off'
              else coalesce(c.modes->>category, case when coalesce(c.consent->'categories' ? category, category = 'usage') then 'now' else 'off' end)
         end
$$;
