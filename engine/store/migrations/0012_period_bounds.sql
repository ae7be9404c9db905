-- An upper bound of the energy of an account's running billing period, so that a commit can tell that no limit was passed
-- without summing the period's days. Written under the account's lock by every commit that touches an account with a limit
-- on a period; holds for one epoch of the utility's registry. Losing a row costs a sum and nothing else.
create table period_bound (
  account_id int not null,
  flow smallint not null,
  -- First local day of the billing period.
  start_day date not null,
  epoch bigint not null,
  kwh double precision not null,
  primary key (account_id, flow)
) with (fillfactor = 50);
