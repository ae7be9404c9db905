/**
 * The life cycle of a message. `handed` is `sending` whose hand-over was written down: the other side may have it.
 *
 * | state \ event | lease   | hand-over | accepted | captured | refused | deferred | withdrawn | uncertain | lost    | replay  |
 * |---------------|---------|-----------|----------|----------|---------|----------|-----------|-----------|---------|---------|
 * | pending       | sending | -         | -        | -        | -       | -        | dropped   | -         | -       | -       |
 * | sending       | sending | handed    | -        | -        | failed  | pending  | dropped   | -         | -       | -       |
 * | handed        | -       | -         | sent     | captured | failed  | pending  | -         | unknown   | unknown | -       |
 * | unknown       | -       | -         | sent     | captured | failed  | pending  | -         | unknown   | -       | pending |
 * | failed        | -       | -         | -        | -        | -       | -        | -         | -         | -       | pending |
 * | sent, captured, dropped: the end                                                                                     |
 *
 * `lease` of `sending` needs a lease that ran out. `withdrawn`: what the message says does not hold any more, or may not be told;
 * once it is handed over, that takes a correction. `deferred`: certainly not taken; the last attempt's is `refused`.
 * `uncertain`: no answer after hand-over. `lost`: the sender is gone after it. What arrives of a sender taken for lost corrects
 * `unknown`. `replay` is an operator's: of `unknown` it may tell somebody twice, and says so.
 */
export type Stage = 'pending' | 'sending' | 'handed' | 'sent' | 'captured' | 'failed' | 'dropped' | 'unknown'

export type MessageEvent =
  | 'lease' | 'hand-over' | 'accepted' | 'captured' | 'refused' | 'deferred' | 'withdrawn' | 'uncertain' | 'lost' | 'replay'

const END = {
  lease: null, 'hand-over': null, accepted: null, captured: null, refused: null, deferred: null, withdrawn: null, uncertain: null,
  lost: null, replay: null,
} as const

// Full records: a stage or an event that is added without its row or column does not compile.
const MOVES: Readonly<Record<Stage, Readonly<Record<MessageEvent, Stage | null>>>> = {
  pending: { ...END, lease: 'sending', withdrawn: 'dropped' },
  sending: { ...END, lease: 'sending', 'hand-over': 'handed', refused: 'failed', deferred: 'pending', withdrawn: 'dropped' },
  handed: { ...END, accepted: 'sent', captured: 'captured', refused: 'failed', deferred: 'pending', uncertain: 'unknown', lost: 'unknown' },
  unknown: { ...END, accepted: 'sent', captured: 'captured', refused: 'failed', deferred: 'pending', uncertain: 'unknown', replay: 'pending' },
  failed: { ...END, replay: 'pending' },
  sent: END,
  captured: END,
  dropped: END,
}

export const stages = Object.keys(MOVES) as Stage[]
export const messageEvents = Object.keys(END) as MessageEvent[]

/** The stage that an event leads to; null where it has no effect. */
export function move(stage: Stage, event: MessageEvent): Stage | null {
  return MOVES[stage][event]
}

/** Stages in which an event has an effect: what the statements that write it are built from. */
export function stagesBefore(event: MessageEvent): Stage[] {
  return stages.filter((stage) => MOVES[stage][event] !== null)
}

/** The SQL condition that a row of `message m` is in one of the stages. */
export function inStages(list: readonly Stage[], row = 'm'): string {
  return `(${list.map((stage) => STAGE_SQL[stage].replaceAll('m.', `${row}.`)).join(' or ')})`
}

const STAGE_SQL: Readonly<Record<Stage, string>> = {
  pending: "m.state = 'pending'",
  sending: "m.state = 'sending' and m.handed_at is null",
  handed: "m.state = 'sending' and m.handed_at is not null",
  sent: "m.state = 'sent'",
  captured: "m.state = 'captured'",
  failed: "m.state = 'failed'",
  dropped: "m.state = 'dropped'",
  unknown: "m.state = 'unknown'",
}
