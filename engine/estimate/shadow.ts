import { groupBy } from '../group-by.js'
import { Quantity } from '../quantity.js'
import { onConnection, type Pool } from '../store/db.js'
import { dayText } from '../time/text.js'
import { getZone } from '../time/zone.js'
import { newestDueDay } from '../usage/completeness.js'
import { slotsFrom } from '../validate/day.js'
import { loadRules } from '../validate/rule-set-store.js'
import { ruleSetOf, type RuleSet, type RuleSetPatch } from '../validate/rule-set.js'
import { validateChannels } from '../validate/step.js'
import { estimateChannels } from './step.js'

const CHUNK = 200

/** What a rule set comes to over the last days. */
export interface ShadowSide {
  /** Flags by rule. */
  flags: Record<string, number>
  /** Reads that the engine's estimates would fill, and their energy, kWh. */
  estimatedReads: number
  estimatedKwh: number
}

export interface ShadowReport {
  from: string
  to: string
  channelDays: number
  inForce: ShadowSide
  shadow: ShadowSide
  /** Channel-days whose total would differ under the other rule set, and by how much in all, kWh. */
  totalsChanged: number
  kwhChanged: number
  /** Days of accounts that have a threshold on a day's energy, among those whose total would differ: alerts to be judged anew. */
  alertsToJudge: number
}

/**
 * What another rule set would change over the last days, by the engine's own functions on what is stored: both rule sets
 * judge and fill, and nothing is written (the transaction is read only).
 */
export async function shadowRules(pool: Pool, utilityId: number, patch: RuleSetPatch, days: number, nowS: number): Promise<ShadowReport> {
  return onConnection(pool, async (client) => {
    await client.query('begin isolation level repeatable read read only')
    const { rows: [utility] } = await client.query<{ zone: string | null }>('select zone from utility where utility_id = $1', [utilityId])
    if (utility.zone === null) throw new Error('the utility has no time zone yet, and holds no reads')
    const zone = getZone(utility.zone)
    const due = newestDueDay(zone, nowS)
    const span = new Set(slotsFrom(due - days + 1, due + 1))
    const sides: [RuleSet, RuleSet] = [(await loadRules(client, utilityId)).rules, ruleSetOf(patch)]
    const report: ShadowReport = {
      from: dayText(due - days + 1), to: dayText(due), channelDays: 0, inForce: nothing(), shadow: nothing(), totalsChanged: 0, kwhChanged: 0, alertsToJudge: 0 }
    const { rows: channels } = await client.query<{ channel_id: number }>(
      `select c.channel_id from channel c where c.utility_id = $1 and c.quantity = ${Quantity.energy}
          and exists (select from channel_day d where d.channel_id = c.channel_id and d.day between $2::date - 35 and $3::date) order by 1`,
      [utilityId, report.from, report.to])
    const differing: { channelId: number; day: number }[] = []
    for (let i = 0; i < channels.length; i += CHUNK) {
      const part = channels.slice(i, i + CHUNK).map((c) => ({ channelId: c.channel_id, days: span }))
      // The meters' other channels are judged beside: each is counted in its own part.
      const own = new Set(part.map((c) => c.channelId))
      const totals: Map<string, number>[] = []
      for (const [k, rules] of sides.entries()) {
        const side = k === 0 ? report.inForce : report.shadow
        const { judged, incomplete } = await validateChannels(client, zone, part, rules, due)
        const within = judged.filter((j) => span.has(j.day) && own.has(j.channelId))
        if (k === 0) report.channelDays += within.length
        if (rules.validation) for (const { findings } of within) for (const f of findings) side.flags[f.rule] = (side.flags[f.rule] ?? 0) + 1
        totals.push(new Map())
        if (!rules.estimation.enabled) continue
        const gaps = new Map([...groupBy(incomplete.filter((g) => span.has(g.day) && own.has(g.channelId)), (g) => g.channelId)]
          .map(([id, list]) => [id, new Map(list.map((g) => [g.day, g]))]))
        if (gaps.size === 0) continue
        for (const { fact, series, estimates } of await estimateChannels(client, zone, gaps, rules.estimation, due)) {
          for (const e of estimates) {
            const day = series.days.find((d) => e.slot >= d.offset && e.slot < d.offset + d.slots)!.day
            if (!span.has(day)) continue
            const kwh = e.mantissa * 10 ** series.exponent
            side.estimatedReads++
            side.estimatedKwh += kwh
            const key = `${fact.channelId}|${day}`
            totals[k].set(key, (totals[k].get(key) ?? 0) + kwh)
          }
        }
      }
      for (const key of new Set([...totals[0].keys(), ...totals[1].keys()])) {
        const change = (totals[1].get(key) ?? 0) - (totals[0].get(key) ?? 0)
        if (Math.abs(change) < 1e-9) continue
        report.totalsChanged++
        report.kwhChanged += change
        const [channelId, day] = key.split('|').map(Number)
        differing.push({ channelId, day })
      }
    }
    const { rows: [{ n }] } = await client.query<{ n: number }>(WATCHED, [differing.map((d) => d.channelId), differing.map((d) => dayText(d.day)), utility.zone])
    report.alertsToJudge = n
    for (const side of [report.inForce, report.shadow]) side.estimatedKwh = Number(side.estimatedKwh.toFixed(3))
    report.kwhChanged = Number(report.kwhChanged.toFixed(3))
    await client.query('rollback')
    return report
  })
}

const WATCHED = `
  select count(distinct (a.account_id, d.day))::int as n
    from unnest($1::int[], $2::date[]) as d(channel_id, day) join channel c using (channel_id)
    join meter_assignment a on a.meter_id = c.meter_id and a.from_at < ((d.day + 1)::timestamp at time zone $3)
     and (a.to_at is null or a.to_at > (d.day::timestamp at time zone $3))
    join threshold t on t.account_id = a.account_id and t.deleted_at is null and t.flow = c.flow and t.kind = 'day-usage'`

function nothing(): ShadowSide {
  return { flags: {}, estimatedReads: 0, estimatedKwh: 0 }
}
