import { BodyError } from '../../engine/problem.js'
import { Flow, Quality } from '../../engine/read-batch.js'
import { checkRow } from './csv-row-reader.js'
import type { CsvRows } from './csv-rows.js'
import type { DecodeContext } from './format.js'
import { MappedClock, MappedNumbers } from './mapped-columns.js'
import type { CsvMapping } from './mapping.js'
import type { ReadSink, RecordFacts } from './sink.js'
import { show } from './words.js'

/** What reading the rows of a long and of a wide file has in common. */
export abstract class MappedRows {
  protected readonly rows: CsvRows
  protected readonly bytes: Uint8Array
  protected readonly sink: ReadSink
  protected readonly mapping: CsvMapping
  protected readonly clock: MappedClock
  protected readonly numbers: MappedNumbers
  /** Seconds; 0 where neither the mapping nor the source states it. */
  protected readonly intervalS: number
  readonly #width: number

  constructor(rows: CsvRows, bytes: Uint8Array, sink: ReadSink, mapping: CsvMapping, names: readonly string[], ctx: DecodeContext) {
    this.rows = rows
    this.bytes = bytes
    this.sink = sink
    this.mapping = mapping
    this.clock = new MappedClock(mapping.datePattern)
    this.numbers = new MappedNumbers(mapping)
    this.intervalS = mapping.intervalSeconds ?? ctx.defaultIntervalS ?? 0
    this.#width = names.length
  }

  /** Takes the row that was split last. */
  abstract read(line: number): void

  /** What the row is, before its fields are read; undefined where it is none, or at fault and reported. */
  protected begin(line: number): RecordFacts | undefined {
    const { rows } = this
    const facts: RecordFacts = {
      meter: '', flow: Flow.delivered, intervalS: this.intervalS, lane: Quality.actual, version: 0, place: line,
      rawFrom: rows.rowFrom, rawTo: rows.rowTo,
    }
    // Padding at the end of a row.
    while (rows.count > this.#width && rows.from[rows.count - 1] === rows.to[rows.count - 1]) rows.count--
    return checkRow(rows, this.bytes, this.sink, facts, this.#width) ? facts : undefined
  }

  protected refuseTime(facts: RecordFacts, column: number, pattern: string, reads = 1): void {
    this.sink.problem(facts, 'time-unreadable', `${show(this.rows.text(column) ?? '')} is no time.`, {
      reads, help: pattern === 'iso' ? 'Times are RFC 3339.' : `Times are written ${pattern}.`,
    })
  }

  /** @throws BodyError 422 */
  protected refuseInterval(): never {
    throw new BodyError(422, 'interval-unknown', `The mapping ${this.mapping.name} states no interval length.`, undefined,
      'Give the mapping intervalSeconds.')
  }
}
