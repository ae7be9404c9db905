import type { DecodeContext } from './format.js'
import { M } from './multispeak.js'
import { attribute, type XmlAttributes } from './xml-reader.js'
import { ownText } from './xml-text.js'

/** The elements that name the meter of a MultiSpeak object, in any order. */
export class MeterNames {
  #no = ''
  #id = ''
  #device = ''

  clear(): void {
    this.#no = this.#id = this.#device = ''
  }

  /** A meterID begins: 4.1 has the number in an attribute. */
  open(attributes: XmlAttributes): void {
    this.#no = ownText(attribute(attributes, 'meterNo') ?? this.#no)
  }

  /** @returns whether the element names the meter */
  close(element: number, text: string): boolean {
    switch (element) {
      case M.meterNo:
        this.#no = ownText(text)
        return true
      case M.meterID:
        this.#id = ownText(text)
        return true
      case M.deviceID:
        this.#device = ownText(text)
        return true
      default:
        return false
    }
  }

  /** The name that says most; '' where there is none. */
  name(ctx: DecodeContext): string {
    return [this.#no, this.#id, this.#device, ctx.meter ?? ''].find((name) => name !== '') ?? ''
  }
}
