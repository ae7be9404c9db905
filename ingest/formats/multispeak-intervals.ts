import { Quality } from '../../engine/read-batch.js'
import { flowIn, LENGTH_UNIT_S, unitIn, type MultiSpeakProfile, type ProfileChannel } from './multispeak-profile.js'
import { M, type MultiSpeakShared, type MultiSpeakState, type ObjectReader } from './multispeak.js'
import { meterFault } from './words.js'
import { attribute, type XmlAttributes } from './xml-reader.js'
import { DecimalReader, integerOf, ownText, readDateTime, XmlTime } from './xml-text.js'

interface ChannelData {
  index: number
  text: string
}

/** What a channel's register showed at the end of the block. */
interface EndReading {
  index: number
  text: string
  at: XmlTime
}

/** Values of a block that are read at most: a year of minutes. */
const MAX_VALUES = 600_000

/**
 * intervalData: profiles say what the channels are, blocks hold their values in `d`, joined by a delimiter, the first of
 * which begins at intervalStart. An empty value is missing. profileType is the older form: a block says when it ends, and
 * its intervals count back from there.
 */
export class IntervalData implements ObjectReader {
  readonly #shared: MultiSpeakShared
  readonly #decimal = new DecimalReader()
  #profiles: MultiSpeakProfile[]
  #statusDelimiter: string
  #intervalDelimiter: string
  #profile: MultiSpeakProfile | null = null
  /** Seconds of the unit of the open intervalLength. */
  #lengthUnitS = 60
  #channel: ProfileChannel | null = null
  #inBlock = false
  #blockProfile = ''
  #meterNo = ''
  #meterId = ''
  readonly #start = new XmlTime()
  #versionUs = 0
  #data: ChannelData[] = []
  #ch: ChannelData | null = null
  #endReadings: EndReading[] = []
  #endReading: EndReading | null = null
  #statuses = ''
  #rawFrom = 0
  /** profileType: the open channel's unit, its block's end and length, and the values that count back. */
  #olderUnits = ''
  #olderMeter = ''
  readonly #olderEnd = new XmlTime()
  #olderIntervalS = 0
  #older: { text: string, quality: number, isMissing: boolean }[] = []
  #isOlder = false
  readonly #olderStatuses = new Map<number, { quality: number, isMissing: boolean }>()
  #olderFlags: { quality: number, isMissing: boolean } = { quality: Quality.actual, isMissing: false }

  constructor(shared: MultiSpeakShared, state: MultiSpeakState | undefined) {
    this.#shared = shared
    this.#profiles = state?.profiles ?? []
    this.#statusDelimiter = state?.statusDelimiter ?? ''
    this.#intervalDelimiter = state?.intervalDelimiter ?? ''
    this.#isOlder = state?.older != null
    this.#olderMeter = state?.older?.meter ?? ''
    this.#olderUnits = state?.older?.units ?? ''
  }

  state(): Omit<MultiSpeakState, 'versionUs'> {
    return {
      profiles: this.#profiles, statusDelimiter: this.#statusDelimiter, intervalDelimiter: this.#intervalDelimiter,
      older: this.#isOlder ? { meter: this.#olderMeter, units: this.#olderUnits } : null,
    }
  }

  open = (element: number, attributes: XmlAttributes): void => {
    switch (element) {
      case M.intervalData:
        this.#profiles = []
        this.#statusDelimiter = this.#intervalDelimiter = ''
        this.#isOlder = false
        break
      case M.profileType:
        this.#isOlder = true
        this.#olderMeter = this.#meterNo = ''
        break
      case M.profile:
        this.#profile = { id: ownText(attribute(attributes, 'profileID') ?? ''), intervalS: 0, channels: [] }
        break
      case M.intervalLength:
        this.#lengthUnitS = LENGTH_UNIT_S[(attribute(attributes, 'units') ?? 'minutes').trim().toLowerCase()] ?? NaN
        break
      case M.channel:
        if (this.#isOlder) this.#olderUnits = ownText(attribute(attributes, 'intervalSourceID') ?? attribute(attributes, 'units') ?? '')
        else this.#channel = { index: NaN, name: '', units: '' }
        break
      case M.block:
        this.#inBlock = true
        this.#rawFrom = this.#shared.reader.tagFrom()
        if (this.#isOlder) this.#openOlderBlock(attributes)
        else {
          this.#blockProfile = this.#meterNo = this.#meterId = this.#statuses = ''
          this.#start.clear()
          this.#versionUs = 0
          this.#data = []
          this.#endReadings = []
        }
        break
      case M.meterID:
        if (this.#isOlder) this.#olderMeter = ownText(attribute(attributes, 'meterNo') ?? this.#olderMeter)
        else this.#meterNo = ownText(attribute(attributes, 'meterNo') ?? this.#meterNo)
        break
      case M.endReading:
        this.#endReading = { index: NaN, text: '', at: new XmlTime() }
        break
      case M.ch:
        this.#ch = { index: NaN, text: '' }
        break
      case M.status:
      case M.interval:
        if (this.#isOlder) this.#flags(attributes)
        break
    }
  }

  close = (element: number, text: string): void => {
    if (this.#isOlder) {
      this.#closeOlder(element, text)
      return
    }
    switch (element) {
      case M.statusDelimiter:
        this.#statusDelimiter = text
        break
      case M.intervalDelimiter:
        this.#intervalDelimiter = text
        break
      case M.intervalLength:
        if (this.#profile !== null && this.#decimal.read(text)) {
          this.#profile.intervalS = Math.round(this.#decimal.mantissa / 10 ** this.#decimal.digits * this.#lengthUnitS)
        }
        break
      case M.index:
        if (this.#channel !== null) this.#channel.index = integerOf(text)
        break
      case M.fieldName:
        if (this.#channel !== null) this.#channel.name = ownText(text)
        break
      case M.units:
        if (this.#channel !== null) this.#channel.units = ownText(text)
        break
      case M.channel:
        if (this.#channel !== null) this.#profile?.channels.push(this.#channel)
        this.#channel = null
        break
      case M.profile:
        if (this.#profile !== null) this.#profiles.push(this.#profile)
        this.#profile = null
        break
      case M.profileID:
        if (this.#inBlock) this.#blockProfile = ownText(text)
        else if (this.#profile !== null && this.#profile.id === '') this.#profile.id = ownText(text)
        break
      case M.meterNo:
        this.#meterNo = ownText(text)
        break
      case M.meterID:
        this.#meterId = ownText(text)
        break
      case M.endReading:
        if (this.#endReading !== null) this.#endReadings.push(this.#endReading)
        this.#endReading = null
        break
      case M.channelIndex:
        if (this.#endReading !== null) this.#endReading.index = integerOf(text)
        break
      case M.reading:
        if (this.#endReading !== null) this.#endReading.text = text.trim()
        break
      case M.readingDate:
        this.#endReading?.at.read(text, this.#shared.time)
        break
      case M.logTime:
        this.#versionUs = this.#micros(text)
        break
      case M.intervalStart:
        this.#start.read(text, this.#shared.time)
        break
      case M.idx:
        if (this.#ch !== null) this.#ch.index = integerOf(text)
        break
      case M.d:
        if (this.#ch !== null) this.#ch.text = text
        break
      case M.ch:
        if (this.#ch !== null) this.#data.push(this.#ch)
        this.#ch = null
        break
      case M.cS:
        this.#statuses = text
        break
      case M.block:
        this.#inBlock = false
        this.#endBlock()
        break
    }
  }

  #endBlock(): void {
    const profile = this.#profiles.find(({ id }) => id === this.#blockProfile)
      ?? (this.#profiles.length === 1 ? this.#profiles[0] : undefined)
    const qualities = this.#statuses.trim() === '' ? null : this.#split(this.#statuses).map(status => this.#qualityOf(status))
    for (const { index, text } of this.#data) {
      if (text.trim() === '') continue
      const values = this.#split(text)
      const channel = profile?.channels.find(own => own.index === index)
        ?? (profile?.channels.length === 1 && Number.isNaN(index) ? profile.channels[0] : undefined)
      this.#endChannel(profile, channel, index, values, qualities)
    }
    for (const reading of this.#endReadings) {
      if (reading.text !== '') this.#register(reading, profile?.channels.find(own => own.index === reading.index))
    }
  }

  #register({ text, at }: EndReading, channel: ProfileChannel | undefined): void {
    const { reads, ctx } = this.#shared
    const meter = this.#meterOf()
    const fault = meterFault(meter)
    const unit = unitIn(channel?.units ?? '', ctx.defaultUnit)
    reads.place = ++this.#shared.records
    reads.lane = Quality.actual
    if (fault !== undefined) reads.problem('', 'meter-invalid', fault)
    else if (unit === undefined || channel === undefined) reads.problem(meter, 'channel-unknown', 'The endReading is of no channel of the profile.')
    else if (!this.#decimal.read(text)) reads.refuseValue({ meter })
    else if (!at.isSet) reads.problem(meter, 'time-missing', 'The endReading has no readingDate.')
    else {
      const facts = { meter, flow: flowIn(`${channel.name} ${channel.units}`), unit, versionUs: this.#versionOf(), tou: '' }
      reads.addRegister(facts, at.localS, at.offsetS, this.#decimal.mantissa, this.#decimal.digits)
    }
  }

  #versionOf(): number {
    return this.#versionUs > 0 ? this.#versionUs : this.#shared.versionUs
  }

  #endChannel(
    profile: MultiSpeakProfile | undefined, channel: ProfileChannel | undefined, index: number, values: readonly string[],
    qualities: readonly number[] | null,
  ): void {
    const { reads, ctx } = this.#shared
    const meter = this.#meterOf()
    const first = this.#shared.records + 1
    const intervalS = profile?.intervalS ?? ctx.defaultIntervalS ?? 0
    const unit = channel === undefined ? undefined : unitIn(channel.units, ctx.defaultUnit)
    const fault = meterFault(meter) ?? (values.length > MAX_VALUES ? 'A block has too many values.' : undefined)
    this.#shared.records += values.length
    reads.rawFrom = this.#rawFrom
    reads.rawTo = this.#shared.reader.position()
    reads.place = first
    const present = values.filter(value => value.trim() !== '').length
    if (present === 0) return
    const refuse = (code: string, message: string, help?: string): void => {
      reads.problem(meter, code, message, { reads: present, ...(help === undefined ? {} : { help }) })
    }
    if (fault !== undefined) refuse('meter-invalid', fault, 'Name the meter in meterID or meterNo.')
    else if (profile === undefined) refuse('profile-unknown', 'The block\'s profileID is none of the profiles\'.', 'Send the profiles before the blocks.')
    else if (channel === undefined) refuse('channel-unknown', `The profile has no channel ${index}.`, 'Send a channel with that index.')
    else if (unit === undefined) refuse('unit-unsupported', `The unit ${JSON.stringify(channel.units.slice(0, 40))} is not known.`)
    else if (!(intervalS > 0)) refuse('interval-unknown', 'The profile has no intervalLength.')
    else if (!this.#start.isSet) refuse('time-missing', 'The block has no intervalStart.')
    else if (qualities !== null && qualities.length !== values.length) {
      refuse('status-count', `The block has ${qualities.length} statuses for ${values.length} values.`, 'Send a status for each interval, or none.')
    } else {
      const facts = { meter, flow: flowIn(`${channel.name} ${channel.units}`), unit, versionUs: this.#versionOf(), tou: '' }
      const { localS } = this.#start
      const offsetS = reads.offsetOf(localS, this.#start.offsetS)
      values.forEach((value, i) => {
        if (value.trim() === '') return
        reads.place = first + i
        reads.lane = qualities?.[i] ?? Quality.actual
        if (this.#decimal.read(value)) reads.addInterval(facts, localS + i * intervalS, offsetS, 0, intervalS, this.#decimal.mantissa, this.#decimal.digits)
        else reads.refuseValue(facts)
      })
    }
  }

  #split(text: string): string[] {
    const delimiter = this.#intervalDelimiter === '' ? ',' : this.#intervalDelimiter
    return text.split(delimiter)
  }

  /** Several codes of one interval: the worst holds. */
  #qualityOf(status: string): number {
    const codes = this.#statusDelimiter === '' ? [status] : status.split(this.#statusDelimiter)
    const words = codes.map(code => code.trim()).filter(code => code !== '' && code !== '0' && !/^(?:ok|good|valid|normal|none)$/i.test(code))
    if (words.length === 0) return Quality.actual
    if (words.some(word => /^e(?:st|$)/i.test(word))) return Quality.estimated
    return Quality.questionable
  }

  #meterOf(): string {
    return [this.#meterNo, this.#meterId, this.#shared.ctx.meter ?? ''].find(name => name !== '') ?? ''
  }

  #micros(text: string): number {
    const { time } = this.#shared
    if (!readDateTime(text, time) || Number.isNaN(time.offsetS)) return 0
    return Math.max(0, (time.localS - time.offsetS) * 1e6 + time.micros)
  }

  #openOlderBlock(attributes: XmlAttributes): void {
    this.#older = []
    this.#olderEnd.clear()
    this.#olderEnd.read(attribute(attributes, 'endTime') ?? '', this.#shared.time)
    const period = attribute(attributes, 'intervalPeriod') ?? ''
    this.#olderIntervalS = this.#decimal.read(period) ? Math.round(this.#decimal.mantissa / 10 ** this.#decimal.digits * 60) : 0
  }

  /** Boolean attributes of an interval, or of a status with the index of one. */
  #flags(attributes: XmlAttributes): void {
    const isSet = (name: string): boolean => /^(?:true|1)$/i.test(attribute(attributes, name) ?? '')
    const isMissing = isSet('recorderStopped')
    const quality = isSet('manuallyEntered') || isSet('manuallyModified') ? Quality.edited
      : ['overflow', 'partialInterval', 'longInterval', 'testData', 'invalid', 'clockForward', 'clockBackward', 'configChanged'].some(isSet)
        ? Quality.questionable : Quality.actual
    this.#olderFlags = { quality, isMissing }
    const index = integerOf(attribute(attributes, 'intervalIndex') ?? '')
    if (!Number.isNaN(index)) this.#olderStatuses.set(index, this.#olderFlags)
  }

  #closeOlder(element: number, text: string): void {
    switch (element) {
      case M.meterID:
        if (text.trim() !== '') this.#olderMeter = ownText(text)
        break
      case M.profileType:
        this.#isOlder = false
        break
      case M.interval:
        if (this.#older.length < MAX_VALUES) this.#older.push({ text: text.trim(), ...this.#olderFlags })
        this.#olderFlags = { quality: Quality.actual, isMissing: false }
        break
      case M.status:
        this.#olderFlags = { quality: Quality.actual, isMissing: false }
        break
      case M.block:
        this.#inBlock = false
        this.#endOlderBlock()
        this.#olderStatuses.clear()
        break
    }
  }

  #endOlderBlock(): void {
    const { reads, ctx } = this.#shared
    const meter = [this.#olderMeter, ctx.meter ?? ''].find(name => name !== '') ?? ''
    const values = this.#older
    const first = this.#shared.records + 1
    this.#shared.records += values.length
    reads.rawFrom = this.#rawFrom
    reads.rawTo = this.#shared.reader.position()
    reads.place = first
    const unit = unitIn(this.#olderUnits, ctx.defaultUnit)
    const fault = meterFault(meter)
    const present = values.filter(({ text }) => text !== '').length
    if (present === 0) return
    if (fault !== undefined) reads.problem('', 'meter-invalid', fault, { reads: present })
    else if (unit === undefined) {
      reads.problem(meter, 'unit-unsupported', `The unit ${JSON.stringify(this.#olderUnits.slice(0, 40))} is not known.`, { reads: present, help: 'Set the source\'s unit.' })
    } else if (!this.#olderEnd.isSet) reads.problem(meter, 'time-missing', 'The block has no endTime.', { reads: present })
    else {
      const facts = { meter, flow: flowIn(this.#olderUnits), unit, versionUs: this.#shared.versionUs, tou: '' }
      const { localS } = this.#olderEnd
      const offsetS = reads.offsetOf(localS, this.#olderEnd.offsetS)
      const intervalS = this.#olderIntervalS > 0 ? this.#olderIntervalS : ctx.defaultIntervalS ?? 0
      values.forEach(({ text, quality, isMissing }, i) => {
        const status = this.#olderStatuses.get(i)
        if (text === '') return
        reads.place = first + i
        reads.lane = status?.quality ?? quality
        if (isMissing || status?.isMissing === true) {
          reads.problem(meter, 'recorder-stopped', 'The recorder was stopped in this interval.', { outcome: 'rejected' })
        } else if (this.#decimal.read(text)) {
          reads.addInterval(facts, localS - (values.length - 1 - i) * intervalS, offsetS, intervalS, intervalS, this.#decimal.mantissa, this.#decimal.digits)
        } else reads.refuseValue(facts)
      })
    }
  }
}
