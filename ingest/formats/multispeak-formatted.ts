import { unitOf, type Unit } from '../../engine/quantity.js'
import { Quality, type FlowCode } from '../../engine/read-batch.js'
import { flowIn } from './multispeak-profile.js'
import { M, type MultiSpeakShared, type ObjectReader } from './multispeak.js'
import { meterFault } from './words.js'
import { DecimalReader, integerOf, ownText, XmlTime } from './xml-text.js'

interface Field {
  name: string
  position: number
  units: string
}

/** Fields that name the meter or the time, whatever their spelling; the others are values. */
const METER = /^(?:meter(?:no|id|number)?|device(?:id)?)$/i
const TIME = /^(?:reading)?(?:date|time|datetime|timestamp|date time)$/i
const WORDS = /^(?:quality|status|comment|error|errorstring|phase|objectid|utility|servicetype|serviceloc|transactionid)$/i

/**
 * formattedBlock: each `val` is one record, split by `separator`; valSyntax says which field stands in which column, in
 * any order, counted from 0 or from 1: the least position tells. Values are what registers showed at the record's time.
 */
export class FormattedBlocks implements ObjectReader {
  readonly #shared: MultiSpeakShared
  readonly #decimal = new DecimalReader()
  readonly #at = new XmlTime()
  #separator = ','
  #fields: Field[] = []
  #field: Field | null = null
  #values: { text: string, rawFrom: number, rawTo: number }[] = []
  #rawFrom = 0

  constructor(shared: MultiSpeakShared) {
    this.#shared = shared
  }

  open = (element: number): void => {
    switch (element) {
      case M.formattedBlock:
        this.#separator = ','
        this.#fields = []
        this.#values = []
        break
      case M.syntaxItem:
        this.#field = { name: '', position: NaN, units: '' }
        break
      case M.val:
        this.#rawFrom = this.#shared.reader.tagFrom()
        break
    }
  }

  close = (element: number, text: string): void => {
    switch (element) {
      case M.separator:
        // A tab or a space is a separator too.
        this.#separator = text === '' ? ',' : text
        break
      case M.fieldName:
        if (this.#field !== null) this.#field.name = ownText(text)
        break
      case M.position:
        if (this.#field !== null) this.#field.position = integerOf(text)
        break
      case M.uom:
        if (this.#field !== null) this.#field.units = ownText(text)
        break
      case M.syntaxItem:
        if (this.#field !== null) this.#fields.push(this.#field)
        this.#field = null
        break
      case M.val:
        this.#values.push({ text, rawFrom: this.#rawFrom, rawTo: this.#shared.reader.position() })
        break
      case M.formattedBlock:
        this.#end()
        break
    }
  }

  #end(): void {
    const base = Math.min(...this.#fields.map(({ position }) => position).filter(position => !Number.isNaN(position)))
    const columns = this.#fields.map(field => ({ ...field, column: field.position - base }))
    const meter = columns.find(({ name }) => METER.test(name.replaceAll(/[\s_]/g, '')))
    const time = columns.find(({ name }) => TIME.test(name.replaceAll(/[\s_]/g, '')))
    const values = columns.filter(field => field !== meter && field !== time && !WORDS.test(field.name.replaceAll(/[\s_]/g, '')))
      .map(field => ({ ...field, unit: unitIn(field), flow: flowIn(field.name) }))
    for (const { text, rawFrom, rawTo } of this.#values) {
      const cells = text.split(this.#separator).map(cell => cell.trim())
      const { reads } = this.#shared
      reads.rawFrom = rawFrom
      reads.rawTo = rawTo
      reads.lane = Quality.actual
      const id = (meter === undefined ? undefined : cells[meter.column]) ?? this.#shared.ctx.meter ?? ''
      this.#at.clear()
      if (time !== undefined) this.#at.read(cells[time.column] ?? '', this.#shared.time)
      this.#record(id, values.map(field => ({ ...field, text: cells[field.column] ?? '' })))
    }
    this.#values = []
  }

  #record(meter: string, values: readonly { name: string, unit: Unit | undefined, flow: FlowCode, text: string }[]): void {
    const { reads } = this.#shared
    const fault = meterFault(meter)
    let isEmpty = true
    for (const { name, unit, flow, text } of values) {
      if (text === '') continue
      isEmpty = false
      reads.place = ++this.#shared.records
      if (fault !== undefined) reads.problem('', 'meter-invalid', fault, { help: 'valSyntax needs a syntaxItem for the meter.' })
      else if (unit === undefined) {
        reads.problem(meter, 'field-unknown', `The field ${JSON.stringify(name.slice(0, 40))} is none that is read.`, { outcome: 'rejected' })
      } else if (!this.#decimal.read(text)) reads.refuseValue({ meter })
      else if (!this.#at.isSet) reads.problem(meter, 'time-missing', 'The record has no time.', { help: 'valSyntax needs a syntaxItem for the reading date.' })
      else {
        reads.addRegister({ meter, flow, unit, versionUs: this.#shared.versionUs, tou: labelOf(name, unit) },
          this.#at.localS, this.#at.offsetS, this.#decimal.mantissa, this.#decimal.digits)
      }
    }
    if (!isEmpty || values.length > 0) return
    reads.place = ++this.#shared.records
    reads.problem(meter, 'syntax-unknown', 'The block\'s valSyntax names no value.', { outcome: 'rejected' })
  }
}

function unitIn({ name, units }: Field): Unit | undefined {
  if (units !== '') return unitOf(units)
  for (const word of [name, ...name.split(/[\s_\-()/]+/), name.replace(/^(?:pos|neg|max|min|tot|total)/i, '')]) {
    const unit = unitOf(word)
    if (unit !== undefined) return unit
  }
  return undefined
}

/** Name that tells a register from the total: a field named by its unit and flow alone is the total. */
function labelOf(name: string, { quantity }: Unit): string {
  const rest = name.replace(/^(?:pos|neg)/i, '').replaceAll(/delivered|received|forward|reverse|reading|register|total/gi, '')
    .replaceAll(/[\s_]+/g, ' ').trim()
  return unitOf(rest)?.quantity === quantity || rest === '' ? '' : rest.toLowerCase()
}
