-- From `cap_from` on no day of the period has more than `cap_kwh`: `kwh` bounds the days before it alone, and a commit whose
-- days stay below the cap has nothing to write here. null: no such day, `kwh` bounds the whole period.
alter table period_bound
  add column cap_from date,
  add column cap_kwh double precision;
