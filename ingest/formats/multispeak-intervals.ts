import { Quality } from '../../engine/read-batch.js'
import { MeterNames } from './multispeak-meter.js'
import { ProfileData } from './multispeak-older.js'
import { flowIn, LENGTH_UNIT_S, unitIn, type MultiSpeakProfile, type ProfileChannel } from './multispeak-profile.js'
import { BLANK, JoinedValues, NO_DECIMAL } from './multispeak-values.js'
import { M, type MultiSpeakShared, type MultiSpeakState, type ObjectReader } from './multispeak.js'
import { meterFault } from './words.js'
import { attribute, type XmlAttributes } from './xml-reader.js'
import { DecimalReader, integerOf, isBlankAt, ownText, readDateTime, XmlTime } from './xml-text.js'

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
 * which begins at intervalStart. An empty value is missing. profileType is the older form.
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
  readonly #meter = new MeterNames()
  readonly #start = new XmlTime()
  #versionUs = 0
  #data: ChannelData[] = []
  #ch: ChannelData | null = null
  readonly #values = new JoinedValues()
  #endReadings: EndReading[] = []
  #endReading: EndReading | null = null
  #statuses = ''
  #rawFrom = 0
  readonly #older: ProfileData
  constructor(shared: MultiSpeakShared, state: MultiSpeakState | undefined) {
    this.#shared = shared
    this.#profiles = state?.profiles ?? []
    this.#statusDelimiter = state?.statusDelimiter ?? ''
    this.#intervalDelimiter = state?.intervalDelimiter ?? ''
    this.#older = new ProfileData(shared, state?.older ?? null)
  }

  state(): Omit<MultiSpeakState, 'versionUs'> {
    return {
      profiles: this.#profiles, statusDelimiter: this.#statusDelimiter, intervalDelimiter: this.#intervalDelimiter,
      older: this.#older.state(),
    }
  }

  open = (element: number, attributes: XmlAttributes): void => {
    if (element === M.intervalData) this.#older.isOpen = false
    if (this.#older.isOpen || element === M.profileType) {
      this.#older.open(element, attributes)
      return
    }
    switch (element) {
      case M.intervalData:
        this.#profiles = []
        this.#statusDelimiter = this.#intervalDelimiter = ''
        break
      case M.profile:
        this.#profile = { id: ownText(attribute(attributes, 'profileID') ?? ''), intervalS: 0, channels: [] }
        break
      case M.intervalLength:
        this.#lengthUnitS = LENGTH_UNIT_S[(attribute(attributes, 'units') ?? 'minutes').trim().toLowerCase()] ?? NaN
        break
      case M.channel:
        this.#channel = { index: NaN, name: '', units: '' }
        break
      case M.block:
        this.#inBlock = true
        this.#rawFrom = this.#shared.reader.tagFrom()
        this.#blockProfile = this.#statuses = ''
        this.#meter.clear()
        this.#start.clear()
        this.#versionUs = 0
        this.#data = []
        this.#endReadings = []
        break
      case M.meterID:
        this.#meter.open(attributes)
        break
      case M.endReading:
        this.#endReading = { index: NaN, text: '', at: new XmlTime() }
        break
      case M.ch:
        this.#ch = { index: NaN, text: '' }
        break
    }
  }

  close = (element: number, text: string): void => {
    if (this.#older.isOpen) {
      this.#older.close(element, text)
      return
    }
    if (this.#meter.close(element, text)) return
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
    const qualities = this.#statuses.trim() === '' ? null : this.#statuses.split(this.#delimiter()).map(status => this.#qualityOf(status))
    for (const { index, text } of this.#data) {
      if (isBlankAt(text, 0, text.length)) continue
      const channel = profile?.channels.find(own => own.index === index)
        ?? (profile?.channels.length === 1 && Number.isNaN(index) ? profile.channels[0] : undefined)
      this.#endChannel(profile, channel, index, text, qualities)
    }
    for (const reading of this.#endReadings) {
      if (reading.text !== '') this.#register(reading, profile?.channels.find(own => own.index === reading.index))
    }
  }

  #register({ text, at }: EndReading, channel: ProfileChannel | undefined): void {
    const { reads, ctx } = this.#shared
    const meter = this.#meter.name(ctx)
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
    profile: MultiSpeakProfile | undefined, channel: ProfileChannel | undefined, index: number, text: string,
    qualities: readonly number[] | null,
  ): void {
    const { reads, ctx } = this.#shared
    const meter = this.#meter.name(ctx)
    const first = this.#shared.records + 1
    const intervalS = profile?.intervalS ?? ctx.defaultIntervalS ?? 0
    const unit = channel === undefined ? undefined : unitIn(channel.units, ctx.defaultUnit)
    const values = this.#values
    values.read(text, this.#delimiter())
    const { count, present } = values
    const fault = meterFault(meter) ?? (count > MAX_VALUES ? 'A block has too many values.' : undefined)
    this.#shared.records += count
    reads.rawFrom = this.#rawFrom
    reads.rawTo = this.#shared.reader.position()
    reads.place = first
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
    else if (qualities !== null && qualities.length !== count) {
      refuse('status-count', `The block has ${qualities.length} statuses for ${count} values.`, 'Send a status for each interval, or none.')
    } else {
      const facts = { meter, flow: flowIn(`${channel.name} ${channel.units}`), unit, versionUs: this.#versionOf(), tou: '' }
      const { localS } = this.#start
      const offsetS = reads.offsetOf(localS, this.#start.offsetS)
      const { mantissas, digits } = values
      for (let i = 0; i < count; i++) {
        if (digits[i] === BLANK) continue
        reads.place = first + i
        reads.lane = qualities === null ? Quality.actual : qualities[i]
        if (digits[i] === NO_DECIMAL) reads.refuseValue(facts)
        else reads.addInterval(facts, localS + i * intervalS, offsetS, 0, intervalS, mantissas[i], digits[i])
      }
    }
  }

  #delimiter(): string {
    return this.#intervalDelimiter === '' ? ',' : this.#intervalDelimiter
  }

  /** Several codes of one interval: the worst holds. */
  #qualityOf(status: string): number {
    const codes = this.#statusDelimiter === '' ? [status] : status.split(this.#statusDelimiter)
    const words = codes.map(code => code.trim()).filter(code => code !== '' && code !== '0' && !/^(?:ok|good|valid|normal|none)$/i.test(code))
    if (words.length === 0) return Quality.actual
    if (words.some(word => /^e(?:st|$)/i.test(word))) return Quality.estimated
    return Quality.questionable
  }

  #micros(text: string): number {
    const { time } = this.#shared
    if (!readDateTime(text, time) || Number.isNaN(time.offsetS)) return 0
    return Math.max(0, (time.localS - time.offsetS) * 1e6 + time.micros)
  }
}
