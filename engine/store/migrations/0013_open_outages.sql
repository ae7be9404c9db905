-- Outages that nobody was told of end, too: their ends are looked for as long as they are open.
create index outage_without_end on outage (utility_id, meter_id) where up_at is null;
