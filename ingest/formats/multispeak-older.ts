import { Quality } from '../../engine/read-batch.js'
import { flowIn, unitIn } from './multispeak-profile.js'
import { M, type MultiSpeakShared, type MultiSpeakState } from './multispeak.js'
import { meterFault } from './words.js'
import { attribute, type XmlAttributes } from './xml-reader.js'
import { DecimalReader, integerOf, ownText, XmlTime } from './xml-text.js'

/** Values of a block that are read at most: a year of minutes. */
const MAX_VALUES = 600_000

/** What the attributes of an interval say of it. */
interface Flags {
  quality: number
  isMissing: boolean
}

const NO_FLAGS: Flags = { quality: Quality.actual, isMissing: false }

/**
 * profileType, the older load profile: a block says when it ends, and its intervals, an element each, count back from
 * there.
 */
export class ProfileData {
  isOpen: boolean
  readonly #shared: MultiSpeakShared
  readonly #decimal = new DecimalReader()
  /** The open channel's unit, its block's end and length, and the values that count back. */
  #units = ''
  #meter = ''
  readonly #end = new XmlTime()
  #intervalS = 0
  #values: { text: string, flags: Flags }[] = []
  readonly #statuses = new Map<number, Flags>()
  #attributes = NO_FLAGS
  #rawFrom = 0

  constructor(shared: MultiSpeakShared, state: MultiSpeakState['older']) {
    this.#shared = shared
    this.isOpen = state !== null
    this.#meter = state?.meter ?? ''
    this.#units = state?.units ?? ''
  }

  state(): MultiSpeakState['older'] {
    return this.isOpen ? { meter: this.#meter, units: this.#units } : null
  }

  open(element: number, attributes: XmlAttributes): void {
    switch (element) {
      case M.profileType:
        this.isOpen = true
        this.#meter = ''
        break
      case M.meterID:
        this.#meter = ownText(attribute(attributes, 'meterNo') ?? this.#meter)
        break
      case M.channel:
        this.#units = ownText(attribute(attributes, 'intervalSourceID') ?? attribute(attributes, 'units') ?? '')
        break
      case M.block:
        this.#rawFrom = this.#shared.reader.tagFrom()
        this.#openBlock(attributes)
        break
      case M.status:
      case M.interval:
        this.#flags(attributes)
        break
    }
  }

  close(element: number, text: string): void {
    switch (element) {
      case M.meterID:
        if (text.trim() !== '') this.#meter = ownText(text)
        break
      case M.profileType:
        this.isOpen = false
        break
      case M.interval:
        if (this.#values.length < MAX_VALUES) this.#values.push({ text: text.trim(), flags: this.#attributes })
        this.#attributes = NO_FLAGS
        break
      case M.status:
        this.#attributes = NO_FLAGS
        break
      case M.block:
        this.#endBlock()
        this.#statuses.clear()
        break
    }
  }

  #openBlock(attributes: XmlAttributes): void {
    this.#values = []
    this.#end.clear()
    this.#end.read(attribute(attributes, 'endTime') ?? '', this.#shared.time)
    const period = attribute(attributes, 'intervalPeriod') ?? ''
    this.#intervalS = this.#decimal.read(period) ? Math.round(this.#decimal.mantissa / 10 ** this.#decimal.digits * 60) : 0
  }

  /** Boolean attributes of an interval, or of a status with the index of one. */
  #flags(attributes: XmlAttributes): void {
    if (!hasAny(attributes)) {
      this.#attributes = NO_FLAGS
      return
    }
    const isSet = (name: string): boolean => /^(?:true|1)$/i.test(attribute(attributes, name) ?? '')
    const isMissing = isSet('recorderStopped')
    const quality = isSet('manuallyEntered') || isSet('manuallyModified') ? Quality.edited
      : ['overflow', 'partialInterval', 'longInterval', 'testData', 'invalid', 'clockForward', 'clockBackward', 'configChanged'].some(isSet)
        ? Quality.questionable : Quality.actual
    this.#attributes = { quality, isMissing }
    const index = integerOf(attribute(attributes, 'intervalIndex') ?? '')
    if (!Number.isNaN(index)) this.#statuses.set(index, this.#attributes)
  }

  #endBlock(): void {
    const { reads, ctx } = this.#shared
    const meter = [this.#meter, ctx.meter ?? ''].find(name => name !== '') ?? ''
    const values = this.#values
    const first = this.#shared.records + 1
    this.#shared.records += values.length
    reads.rawFrom = this.#rawFrom
    reads.rawTo = this.#shared.reader.position()
    reads.place = first
    const unit = unitIn(this.#units, ctx.defaultUnit)
    const fault = meterFault(meter)
    const present = values.filter(({ text }) => text !== '').length
    if (present === 0) return
    if (fault !== undefined) reads.problem('', 'meter-invalid', fault, { reads: present })
    else if (unit === undefined) {
      reads.problem(meter, 'unit-unsupported', `The unit ${JSON.stringify(this.#units.slice(0, 40))} is not known.`, { reads: present, help: 'Set the source\'s unit.' })
    } else if (!this.#end.isSet) reads.problem(meter, 'time-missing', 'The block has no endTime.', { reads: present })
    else {
      const facts = { meter, flow: flowIn(this.#units), unit, versionUs: this.#shared.versionUs, tou: '' }
      const { localS } = this.#end
      const offsetS = reads.offsetOf(localS, this.#end.offsetS)
      const intervalS = this.#intervalS > 0 ? this.#intervalS : ctx.defaultIntervalS ?? 0
      values.forEach(({ text, flags }, i) => {
        const status = this.#statuses.size === 0 ? undefined : this.#statuses.get(i)
        if (text === '') return
        reads.place = first + i
        reads.lane = status?.quality ?? flags.quality
        if (flags.isMissing || status?.isMissing === true) {
          reads.problem(meter, 'recorder-stopped', 'The recorder was stopped in this interval.', { outcome: 'rejected' })
        } else if (this.#decimal.read(text)) {
          reads.addInterval(facts, localS - (values.length - 1 - i) * intervalS, offsetS, intervalS, intervalS, this.#decimal.mantissa, this.#decimal.digits)
        } else reads.refuseValue(facts)
      })
    }
  }
}

function hasAny(attributes: XmlAttributes): boolean {
  for (const _ in attributes) return true
  return false
}
