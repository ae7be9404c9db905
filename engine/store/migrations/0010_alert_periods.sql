-- A commit asks which of its accounts have an alert in the periods that it touched.
create index alert_account_period on alert (account_id, period_end);
