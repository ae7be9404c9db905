-- What waits to be judged is taken by channels: all the waiting days of some channels together, whose baselines and days
-- before are read once then. Rows of a fleet's deliveries begin with the same channels day after day.
create index vee_pending_channels on vee_pending (utility_id, (channel_ids[1]), pending_id);
drop index vee_pending_utility;
