-- The Kafka door: what a position is fenced and continued by, which offsets a delivery holds, and letters to the dead topic.

alter table kafka_position
  -- Greatest version given to a message of the partition: the next owner's go on from there, whatever its clock shows.
  add column last_version bigint not null default 0,
  -- Utilities whose messages are settled beyond next_offset, and up to where: a batch that holds several utilities takes
  -- a transaction for each, and next_offset moves with the last one.
  add column ahead jsonb not null default '{}',
  -- End of the partition as the owner saw it last, for the lag that `meterline status` shows.
  add column end_offset bigint,
  add column end_seen_at timestamptz;

-- Offsets [first_offset, next_offset) of the batch of messages that a delivery is a part of; the message at offset o had
-- the version `version + o - first_offset`, which a redelivery looks up and keeps (C4).
alter table delivery
  add column kafka_topic text,
  add column kafka_partition int,
  add column first_offset bigint,
  add column next_offset bigint;
create index delivery_kafka on delivery (kafka_topic, kafka_partition, next_offset) where kafka_topic is not null;

-- Messages that could not be read, on their way to the dead topic: written with the position, removed when the broker has them.
create table dead_letter (
  dead_letter_id  bigint generated always as identity primary key,
  consumer_group  text not null,
  topic           text not null,
  kafka_partition int not null,
  message_offset  bigint not null,
  at              timestamptz not null default now(),
  key             bytea,
  value           bytea,
  -- [[name, base64], …] as they came
  headers         jsonb not null default '[]',
  code            text not null,
  message         text not null
);
create index dead_letter_of on dead_letter (consumer_group, topic, dead_letter_id);
