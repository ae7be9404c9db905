-- What meters report beside reads: power down and up, tampering and whatever else a head-end names.

create table meter_event (
  event_id    bigint generated always as identity primary key,
  utility_id  int not null,
  -- The meter's public id; what the head-end sent where no meter is registered under it.
  meter       text not null,
  -- null: not registered when the event came.
  meter_id    int,
  kind        text not null,
  at          timestamptz not null,
  source      text not null,
  delivery_id uuid,
  details     jsonb not null default '{}',
  received_at timestamptz not null default now(),
  -- A repetition does nothing.
  unique (utility_id, meter, kind, at)
);
create index meter_event_time on meter_event (utility_id, at, event_id);
create index meter_event_arrival on meter_event (event_id) where kind in ('power-down', 'power-up');
