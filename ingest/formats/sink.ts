import { BodyError, type Outcome, type RecordProblem } from '../../engine/problem.js'
import type { MeterEvent } from '../../engine/events.js'
import { Quantity, type QuantityCode } from '../../engine/quantity.js'
import { Flow, ReadBatchBuilder, type BlockHead, type FlowCode } from '../../engine/read-batch.js'
import { isDayLengthOf, type Zone } from '../../engine/time/zone.js'
import { Channel, Slabs } from './channel.js'
import { resolvePasses } from './clock-change.js'
import { DecimalFitter } from './decimal.js'
import type { ChannelState, DecodeContext, Decoded, FormatState, HeldReads, Piece } from './format.js'
import { recordText } from './record-text.js'
import { RegisterSink } from './register-sink.js'
import { LocalClock, localText, utcText } from './timestamps.js'
import { intervalKind } from './words.js'

const DAY_S = 86400
const INTERVAL_HELP = 'Intervals are 60 s to 86400 s long and divide the hour, or are whole hours that divide the day; '
  + 'a local day of 23 or 25 hours counts as a day.'
/** Problems that are told one by one; after that, records next to each other with the same fault are told together. */
const FOLD_AFTER = 10_000
/** Bytes of records that are told together at most, so that what is kept of them stays handy. */
const FOLD_BYTES = 64 * 1024
/** A body of more problems than this is no body of reads, and would fill the memory with them. */
const MAX_PROBLEMS = 200_000

/** Reads this long after a repeated hour show that no second pass of it follows. */
const PASSED_S = 3 * 3600

/** What a record says, apart from when and how much. */
export interface RecordFacts {
  meter: string
  flow: FlowCode
  /** Energy where not given. */
  quantity?: QuantityCode
  intervalS: number
  lane: number
  /** Microseconds since the epoch, 0 where the record states none. */
  version: number
  /** Line or record number, from 1. */
  place: number
  rawFrom: number
  rawTo: number
}

/** When a record says that it was: a wall clock, and how far that is from UTC. */
export interface RecordTime {
  /** Seconds since 1970-01-01T00:00 of the clock that the record uses. */
  localS: number
  /** Seconds east of UTC; NaN: local time of the source's zone. */
  offsetS: number
  /** Subtracted to come to the start: the interval length of an end label, else 0. */
  backS: number
}

/** A record's values: one piece, or more where no exponent holds all of them; `lanes` where they differ in quality. */
export interface RecordValues {
  pieces: readonly Piece[]
  /** Slots of each piece, which may have room for more. */
  count: number
  lanes: readonly number[] | null
  /** Slots that are not missing. */
  reads: number
  /** A single read, to be gathered into a block with its neighbours. */
  single: boolean
}

/** Where every decoder puts what it reads: blocks, single reads and problems; settles local times on the way. */
export class ReadSink {
  readonly problems: RecordProblem[] = []
  readonly notes: string[] = []
  readonly decimals: DecimalFitter
  readonly clock: LocalClock | null
  /** Zone whose days daily reads are. */
  readonly #dayZone: Zone | null
  /** Stamps that say UTC hold the local wall clock. */
  readonly wallAsEpoch: boolean
  readonly builder: ReadBatchBuilder
  /** Reads that are no intervals. */
  readonly registers: RegisterSink
  /** Single reads are gathered into blocks with those that follow; where not, each is a block. */
  gathers = true
  /** What meters reported beside reads: power down, tampering. */
  readonly events: MeterEvent[] = []
  readonly #places: 'line' | 'record'
  readonly #channels = new Map<string, Channel>()
  readonly #slabs = new Slabs()
  readonly #head: BlockHead = {
    meter: '', startS: 0, intervalS: 0, flow: Flow.delivered, quantity: Quantity.energy, lane: 0, exponent: 0, version: 0, place: 0,
    rawFrom: 0, rawTo: 0,
  }

  /**
   * @param places what the records' numbers count
   * @param bytes length of the part: a push of one read must not take the memory of a day
   */
  constructor(ctx: DecodeContext, state: FormatState | null, places: 'line' | 'record', bytes: number) {
    this.#places = places
    this.builder = new ReadBatchBuilder(Math.min(1024, 4 + (bytes >> 8)), 16 + Math.ceil(bytes / 6))
    this.decimals = new DecimalFitter(ctx.round === true)
    this.clock = ctx.zone === null ? null : new LocalClock(ctx.zone)
    this.#dayZone = ctx.dayZone ?? ctx.zone
    this.wallAsEpoch = ctx.clock === 'wall-as-epoch'
    this.registers = new RegisterSink(this, ctx.round === true)
    for (const own of state?.channels ?? []) this.channel(own.meter, own.flow, own.intervalS, own.quantity).restore(own)
  }

  /** The channel of a meter's reads, in which single reads become blocks. */
  channel(meter: string, flow: FlowCode, intervalS: number, quantity: QuantityCode = Quantity.energy): Channel {
    let channel = this.#channels.get(meter)
    if (channel === undefined) {
      channel = new Channel(meter, flow, intervalS, quantity, this.builder, this.#slabs)
      this.#channels.set(meter, channel)
      return channel
    }
    for (;;) {
      if (channel.flow === flow && channel.intervalS === intervalS && channel.quantity === quantity) return channel
      channel.next ??= new Channel(meter, flow, intervalS, quantity, this.builder, this.#slabs)
      channel = channel.next
    }
  }

  /**
   * Reports a record, or a part of it, that does not become reads.
   *
   * @param options.within the part: a JSON pointer or a column
   * @param options.fold the fault is the whole file's: told once for the records next to each other that have it
   * @throws BodyError 422 when there are too many problems to keep
   */
  problem(
    where: Pick<RecordFacts, 'place' | 'rawFrom' | 'rawTo'> & { meter?: string }, code: string, message: string,
    options: {
      within?: string, help?: string, reads?: number, outcome?: Outcome, record?: string, fold?: boolean,
    } = {},
  ): void {
    const { within, help, reads = 1, outcome = 'quarantined', record } = options
    const fold = options.fold ?? this.problems.length >= FOLD_AFTER
    if (fold && this.#fold(where, code, outcome, reads)) return
    if (this.problems.length === MAX_PROBLEMS) {
      throw new BodyError(422, 'too-many-problems', `More than ${MAX_PROBLEMS} records cannot be read.`,
        `${this.#places} ${where.place}`, `The last: ${code}. ${message}`)
    }
    const at = `${this.#places} ${where.place}${within === undefined || within === '' ? '' : `, ${within}`}`
    const problem: RecordProblem = { code, at, message, outcome, reads }
    if (help !== undefined) problem.help = help
    if (where.meter !== undefined && where.meter !== '') problem.meter = where.meter
    if (where.rawTo > where.rawFrom) {
      problem.rawFrom = where.rawFrom
      problem.rawTo = where.rawTo
    }
    if (record !== undefined) problem.record = record
    this.problems.push(problem)
  }

  /** Adds a record to the last problem, where it stands next to it in the body and has the same fault. */
  #fold(
    where: { place: number, rawFrom: number, rawTo: number }, code: string, outcome: Outcome, reads: number,
  ): boolean {
    const last = this.problems.at(-1)
    if (last?.code !== code || last.outcome !== outcome) return false
    if (last.rawFrom === undefined || last.rawTo === undefined) return false
    const gap = where.rawFrom - last.rawTo
    if (!(gap >= 0 && gap <= 2) || where.rawTo - last.rawFrom > FOLD_BYTES) return false
    last.reads += reads
    last.rawTo = where.rawTo
    last.at = `${this.#places}s ${/\d+/.exec(last.at)?.[0] ?? ''} to ${where.place}`
    // The bytes are what is left of records that need not be of one meter.
    delete last.meter
    delete last.record
    return true
  }

  /** Takes a single read whose value is the last that `decimals` fitted. */
  addFitted(facts: RecordFacts, time: RecordTime): void {
    const { decimals, mantissa } = this.decimals
    const pieces = [{ decimals, mantissas: Int32Array.of(mantissa) }]
    this.add(facts, time, { pieces, count: 1, lanes: null, reads: 1, single: true })
  }

  /** True for a time that has to be told by the local clock. */
  isLocal({ offsetS }: RecordTime): boolean {
    return Number.isNaN(offsetS) || (this.wallAsEpoch && offsetS === 0)
  }

  /** Takes a record whose values are decoded: finds its instants and adds it to the batch, or says why not. */
  add(facts: RecordFacts, time: RecordTime, values: RecordValues): void {
    if (values.reads === 0) return
    if (!this.isLocal(time)) {
      this.#place(facts, time.localS - time.offsetS, time.backS, values)
      return
    }
    if (this.clock === null) {
      const start = localText(time.localS - time.backS)
      this.problem(facts, 'zone-unknown', `${start} is a local time, and the source's time zone is not known.`, {
        reads: values.reads, record: recordText(facts, start, values),
        help: 'Set the source\'s zone, or send timestamps with their offset.',
      })
      return
    }
    const instants = this.clock.instants(time.localS)
    if (instants.length === 1) this.#place(facts, instants[0], time.backS, values)
    else if (instants.length === 2) this.#hold(facts, time, values)
    else this.#skipped(facts, time, values)
  }

  /**
   * Ends the body, or a part of it.
   *
   * @param state what else the format carries to the next part
   */
  finish(final: boolean, state: Omit<FormatState, 'channels'>): Decoded {
    const channels: ChannelState[] = []
    for (const channel of this.#all()) {
      const { held } = channel
      if (held !== null && (final || this.#hasPassed(channel, held))) this.#settleHeld(channel, held)
      if (!final && (channel.held !== null || this.#isNearChange(channel.endS))) {
        const { meter, flow, quantity, intervalS, endS, followedByS } = channel
        channels.push({ meter, flow, quantity, intervalS, endS, held: channel.held, followedByS })
      }
    }
    for (const channel of this.#all()) channel.close()
    return {
      batch: this.builder.finish(),
      registers: this.registers.finish(),
      events: this.events,
      problems: this.problems,
      rounded: this.decimals.rounded,
      state: final ? null : { ...state, channels },
      notes: this.notes,
    }
  }

  /** A channel that has gone on by hours will not come back to its repeated hour. */
  #hasPassed(channel: Channel, held: HeldReads[]): boolean {
    const [, later] = this.clock?.instants(held[held.length - 1].localS) ?? []
    return !Number.isNaN(channel.followedByS) && Math.abs(channel.endS - later) > PASSED_S
  }

  #isNearChange(s: number): boolean {
    const { clock } = this
    return clock !== null && !Number.isNaN(s) && Number.isNaN(clock.offsetOn(clock.zone.dayOf(s)))
  }

  * #all(): Generator<Channel> {
    for (const first of this.#channels.values()) {
      for (let channel: Channel | null = first; channel !== null; channel = channel.next) yield channel
    }
  }

  /** Adds a record to the batch; `instant` is its start, or where backS says so its end. */
  #place(facts: RecordFacts, instant: number, backS: number, values: RecordValues): void {
    let startS = instant - backS
    let { intervalS } = facts
    const zone = this.#dayZone
    if (intervalS === DAY_S && backS === DAY_S && zone !== null) {
      // A daily read that ends at midnight began at midnight, however long the day was.
      const day = zone.dayOf(instant)
      if (zone.dayStart(day) === instant) startS = zone.dayStart(day - 1)
    }
    if (intervalKind(intervalS) !== 'grid') {
      const isDay = values.count === 1 && zone !== null
        && isDayLengthOf(zone, startS, intervalS)
      if (!isDay) {
        this.problem(facts, 'interval-length', `An interval of ${intervalS} s fits no grid.`, {
          reads: values.reads, record: recordText(facts, utcText(startS), values), help: INTERVAL_HELP,
        })
        return
      }
      intervalS = DAY_S
    }
    if (values.single && this.gathers) {
      const [{ mantissas, decimals }] = values.pieces
      this.channel(facts.meter, facts.flow, intervalS, facts.quantity)
        .append(startS, mantissas[0], decimals, facts.lane, facts.version, facts.place, facts.rawFrom, facts.rawTo)
      return
    }
    for (const piece of values.pieces) {
      if (intervalS === DAY_S && zone !== null) this.#addDays(facts, startS, piece, values)
      else this.#addBlock(facts, startS, intervalS, piece, 0, values.count, values.lanes)
    }
  }

  /** Adds a block of daily reads, which follow each other by local days: 86400 s apart except where clocks change. */
  #addDays(facts: RecordFacts, startS: number, piece: Piece, { count, lanes }: RecordValues): void {
    const zone = this.#dayZone
    const day = zone?.dayOf(startS) ?? 0
    if (zone === null || zone.dayStart(day) !== startS) {
      this.#addBlock(facts, startS, DAY_S, piece, 0, count, lanes)
      return
    }
    let from = 0
    for (let to = 1; to <= count; to++) {
      const fromS = zone.dayStart(day + from)
      if (to < count && zone.dayStart(day + to) === fromS + (to - from) * DAY_S) continue
      this.#addBlock(facts, fromS, DAY_S, piece, from, to, lanes)
      from = to
    }
  }

  /** Adds the piece's slots [from, to) as a block. */
  #addBlock(
    facts: RecordFacts, startS: number, intervalS: number, { decimals, mantissas }: Piece, from: number, to: number,
    lanes: readonly number[] | null,
  ): void {
    const { builder } = this
    const n = to - from
    const values = builder.reserve(n)
    const cursor = builder.cursor
    for (let i = 0; i < n; i++) values[cursor + i] = mantissas[from + i]
    builder.advance(n)
    if (lanes !== null) builder.setLanes(lanes.slice(from, to), n, facts.lane)
    const head = this.#head
    head.meter = facts.meter
    head.startS = startS
    head.intervalS = intervalS
    head.flow = facts.flow
    head.quantity = facts.quantity
    head.lane = facts.lane
    head.exponent = -decimals
    head.version = facts.version
    head.place = facts.place
    head.rawFrom = facts.rawFrom
    head.rawTo = facts.rawTo
    builder.endBlock(head)
  }

  #hold(facts: RecordFacts, time: RecordTime, values: RecordValues): void {
    const channel = this.channel(facts.meter, facts.flow, facts.intervalS, facts.quantity)
    channel.hold({
      meter: facts.meter, flow: facts.flow, quantity: facts.quantity, intervalS: facts.intervalS, localS: time.localS, backS: time.backS,
      pieces: values.pieces.map(piece => ({ ...piece, mantissas: piece.mantissas.slice(0, values.count) })),
      count: values.count,
      lane: facts.lane, lanes: values.lanes, version: facts.version, reads: values.reads, single: values.single,
      place: facts.place, previousS: channel.endS,
    })
  }

  /** A local time that clocks skip. */
  #skipped(facts: RecordFacts, time: RecordTime, values: RecordValues): void {
    const { clock } = this
    if (clock === null) return
    // An interval that ends when the clocks go forward: some write the time that the clock no longer shows.
    const starts = time.backS > 0 ? clock.instants(time.localS - time.backS) : []
    if (starts.length === 1) {
      this.#place(facts, starts[0], 0, values)
      return
    }
    this.problem(facts, 'local-time-does-not-exist', `Clocks in ${clock.zone.name} skip ${localText(time.localS)}.`, {
      reads: values.reads, record: recordText(facts, localText(time.localS - time.backS), values),
      help: 'Check the source\'s zone. If its clocks do not change, set a zone that has no daylight saving.',
    })
  }

  #settleHeld(channel: Channel, held: HeldReads[]): void {
    const { clock } = this
    if (clock === null) return
    const instants = resolvePasses(held, localS => clock.instants(localS), channel.followedByS)
    channel.held = null
    held.forEach((reads, i) => {
      const facts: RecordFacts = { ...reads, rawFrom: 0, rawTo: 0 }
      if (!Number.isNaN(instants[i])) {
        this.#place(facts, instants[i], reads.backS, reads)
        return
      }
      const local = localText(reads.localS)
      this.problem(facts, 'local-time-ambiguous',
        `Clocks in ${clock.zone.name} show ${local} twice, and the order of the reads does not tell which is meant.`, {
          reads: reads.reads, record: recordText(facts, localText(reads.localS - reads.backS), reads),
          help: 'Send both passes of the repeated hour in one body, or timestamps with their offset.',
        })
    })
  }
}
