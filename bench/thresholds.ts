import { dayNumber } from '../engine/time/text.js'
import { accountId, createFleet, type FleetOptions } from '../fixtures/simulator.js'
import { Instance } from './instance.js'
import { Pusher } from './pusher.js'
import { say, type Outcome } from './report.js'
import type { ScenarioOptions } from './scenario.js'
import { figure, spreadOf } from './statistics.js'

const METERS = 50_000
/** Days of a measured push: some seconds of settling. */
const DAYS = 4
const METERS_PER_BODY = 5_000
const CONNECTIONS = 4
const FIRST_DAY = dayNumber('2025-03-02')
/** One account in so many has a limit that its day passes. */
const CROSSING = 200

/** Reads a second, and CPU seconds for a million of them. */
interface Push { rate: number; server: number; database: number }

const STATES = ['none', 'still', 'crossing'] as const
const NAMES = { none: 'no thresholds', still: 'three thresholds, none crossing', crossing: 'three thresholds, few crossing' }

/** Limits of one kind differ between accounts. */
const LIMITS = 40

/** What settling is told of each account's three thresholds; the limits are kWh and kW. */
const KINDS = [['day-usage', 1_000_000], ['period-usage', 1_000_000], ['demand', 1_000_000]] as const

/**
 * The same day blocks pushed by HTTP by a fleet without thresholds and by one that has three on every account: none of
 * them crossing, then one account in 200 crossing its day's limit. Rounds alternate in one run on one server.
 */
export async function thresholds(options: ScenarioOptions): Promise<Outcome> {
  const fleet: FleetOptions = { meters: METERS, seed: 'bench', zone: 'America/Chicago', startDay: FIRST_DAY }
  const instance = await Instance.start(options.env, options.nodeArgs)
  const pusher = new Pusher(instance)
  const client = await instance.connect()
  try {
    say(`registering ${METERS} meters`)
    const made = createFleet(fleet)
    await instance.register(made)
    // Its turns would fall into some rounds and not into others.
    await client.query('update utility set validates = false')
    const accounts = Array.from({ length: METERS }, (_, i) => accountId(made, i))
    const pushes: Record<(typeof STATES)[number], Push[]> = { none: [], still: [], crossing: [] }
    let raised = 0
    let day = FIRST_DAY
    const push = async (count: number): Promise<Push> => {
      const days = Array.from({ length: count }, (_, i) => day + i)
      day += count
      const { reads } = await pusher.prepare({ fleet, days, metersPerBody: METERS_PER_BODY })
      await client.query('checkpoint')
      const before = instance.cpu()
      const sent = await pusher.send(CONNECTIONS)
      const after = instance.cpu()
      if (sent.stored !== reads) throw new Error(`${sent.stored} of ${reads} reads were stored`)
      const perMillion = (part: 'server' | 'database'): number => (after[part] - before[part]) / sent.stored * 1e6
      return { rate: sent.stored / sent.seconds, server: perMillion('server'), database: perMillion('database') }
    }
    await push(1)
    for (let sample = 0; sample < options.samples; sample++) {
      // Each sample begins with another, so that what the database has grown by meets all alike.
      for (const state of STATES.map((_, i) => STATES[(i + sample) % STATES.length])) {
        await client.query('delete from alert')
        await client.query('delete from threshold')
        if (state !== 'none') {
          for (const [kind, limit] of KINDS) {
            await client.query(
              `insert into threshold (threshold_id, utility_id, account_id, kind, limit_value, version_from)
               select gen_random_uuid(), utility_id, account_id, $1,
                      case when $3 and $1 = 'day-usage' and account_id % ${CROSSING} = 0 then 1
                           else $2::numeric + account_id / 7 % ${LIMITS} end, 'epoch'
                 from account where id = any($4::text[])`, [kind, limit, state === 'crossing', accounts])
          }
        }
        // One epoch for all, as one registry write would have it.
        await client.query(
          `with next as (update utility set registry_epoch = registry_epoch + 1 returning utility_id, registry_epoch)
           update account a set epoch = n.registry_epoch, thresholds = $1 from next n where n.utility_id = a.utility_id`, [state === 'none' ? 0 : KINDS.length])
        await client.query('vacuum (analyze) account, threshold, alert, meter, meter_assignment, channel')
        // The workers read the registry anew with the first body of a round: it is not measured.
        await push(1)
        const pushed = await push(DAYS)
        const { rows } = await client.query<{ n: number }>('select count(*)::int as n from alert')
        if (state === 'still' && rows[0].n > 0) throw new Error(`${rows[0].n} alerts were raised where no limit was to be passed`)
        if (state === 'crossing' && rows[0].n === 0) throw new Error('no alert was raised')
        if (state === 'crossing') raised = rows[0].n
        pushes[state].push(pushed)
        say(`sample ${sample + 1}, ${state}: ${figure(pushed.rate)} reads/s, ${rows[0].n} alerts; ` +
          `CPU s per M reads: server ${figure(pushed.server)}, database ${figure(pushed.database)}`)
      }
    }
    return {
      about: `${figure(METERS)} accounts of one meter each, ${DAYS} days of quarter-hours a push, JSON bodies of ${METERS_PER_BODY} meters and one day, ` +
        `${CONNECTIONS} connections. With thresholds every account has a day, a period and a demand limit; "crossing": one account in ` +
        `${CROSSING} passes its day's limit (${raised} alerts in the last round). The rounds alternate; a first push of each, in ` +
        'which the workers read the registry anew, is not counted. Client, server and database share the cores.',
      measures: STATES.flatMap((state) => [
        { name: NAMES[state], unit: 'reads/s', spread: spreadOf(pushes[state].map((p) => p.rate)),
          ...(state === 'none' ? {} : { floor: NAMES.none }) },
        { name: `${NAMES[state]}: CPU of the server`, unit: 's per million reads', spread: spreadOf(pushes[state].map((p) => p.server)) },
        { name: `${NAMES[state]}: CPU of the database`, unit: 's per million reads', spread: spreadOf(pushes[state].map((p) => p.database)) },
      ]),
      database: await instance.facts(),
    }
  } finally {
    await client.end()
    await pusher.close()
    await instance.stop(options.keep)
  }
}
