/**
 * The life cycle of an alert, one per threshold version and period: none -> raised <-> retracted.
 *
 * | state \ finding | breach      | breach-quiet | clear   | open    | void    |
 * |-----------------|-------------|--------------|---------|---------|---------|
 * | none            | raise       | nothing      | nothing | nothing | nothing |
 * | raised          | update      | update       | retract | retract | retract |
 * | retracted       | raise-again | nothing      | nothing | nothing | nothing |
 */

export const alertStates = ['none', 'raised', 'retracted'] as const
export type AlertState = (typeof alertStates)[number]

/**
 * What the period's stored data say now.
 *
 * - `breach`: the limit is passed.
 * - `breach-quiet`: it is, where nothing may be raised (a history load, an earlier version of the threshold, a
 *   projection that comes too late).
 * - `clear`: it is not.
 * - `open`: it cannot be told: the period runs, or reads are missing that would have to be known. An alert that was
 *   raised on reads which are gone since stands on nothing.
 * - `void`: the period is none any more, because the billing cycle changed while it ran.
 */
export const findings = ['breach', 'breach-quiet', 'clear', 'open', 'void'] as const
export type Finding = (typeof findings)[number]

/** What is to be written. `update` keeps the step: the value moved and the alert stands as before. */
export type Move = 'nothing' | 'raise' | 'raise-again' | 'update' | 'retract'

// Full records: a state or a finding that is added without its row or column does not compile.
const MOVES: Readonly<Record<AlertState, Readonly<Record<Finding, Move>>>> = {
  none: { breach: 'raise', 'breach-quiet': 'nothing', clear: 'nothing', open: 'nothing', void: 'nothing' },
  raised: { breach: 'update', 'breach-quiet': 'update', clear: 'retract', open: 'retract', void: 'retract' },
  retracted: { breach: 'raise-again', 'breach-quiet': 'nothing', clear: 'nothing', open: 'nothing', void: 'nothing' },
}

/** What one evaluation of a period does to its alert. */
export function judge(state: AlertState, finding: Finding): Move {
  return MOVES[state][finding]
}

/** The state after a move. */
export function stateAfter(state: AlertState, move: Move): AlertState {
  switch (move) {
    case 'raise':
    case 'raise-again':
      return 'raised'
    case 'retract':
      return 'retracted'
    case 'update':
    case 'nothing':
      return state
  }
}
