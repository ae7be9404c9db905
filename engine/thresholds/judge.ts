/**
 * The life cycle of an alert, one per threshold version and period: none -> raised <-> retracted.
 *
 * | state \ finding | above       | above-quiet | not-above |
 * |-----------------|-------------|-------------|-----------|
 * | none            | raise       | nothing     | nothing   |
 * | raised          | update      | update      | retract   |
 * | retracted       | raise-again | nothing     | nothing   |
 */

export type AlertState = 'none' | 'raised' | 'retracted'

/**
 * What the period's stored data say. `above-quiet`: above the limit, where nothing may be raised (a history load, an
 * earlier version of the threshold).
 */
export type Finding = 'above' | 'above-quiet' | 'not-above'

/** What is to be written. `update` keeps the step: the value moved and the alert stands as before. */
export type Move = 'nothing' | 'raise' | 'raise-again' | 'update' | 'retract'

// Full records: a state or a finding that is added without its row or column does not compile.
const MOVES: Readonly<Record<AlertState, Readonly<Record<Finding, Move>>>> = {
  none: { above: 'raise', 'above-quiet': 'nothing', 'not-above': 'nothing' },
  raised: { above: 'update', 'above-quiet': 'update', 'not-above': 'retract' },
  retracted: { above: 'raise-again', 'above-quiet': 'nothing', 'not-above': 'nothing' },
}

/** What one evaluation of a period does to its alert. */
export function judge(state: AlertState, finding: Finding): Move {
  return MOVES[state][finding]
}
