import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BLANK, JoinedValues, NO_DECIMAL } from './multispeak-values.js'
import { DecimalReader, isBlankAt } from './xml-text.js'

/** Each piece's value by itself: what no reading in one pass may differ from. */
function apart(text: string, delimiter: string): string[] {
  const decimal = new DecimalReader()
  return text.split(delimiter).map(piece => {
    if (isBlankAt(piece, 0, piece.length)) return 'blank'
    return decimal.read(piece) ? plain(decimal.mantissa, decimal.digits) : 'none'
  })
}

/** Without the zeros at the end. */
function plain(mantissa: number, digits: number): string {
  for (; digits > 0 && mantissa % 10 === 0; digits--) mantissa /= 10
  return `${mantissa + 0}e-${digits}`
}

function together(values: JoinedValues): string[] {
  return Array.from({ length: values.count }, (_, i) => {
    const digits = values.digits[i]
    return digits === BLANK ? 'blank' : digits === NO_DECIMAL ? 'none' : plain(values.mantissas[i], digits)
  })
}

describe('joined values', () => {
  const piece = fc.oneof(
    fc.double({ noNaN: true }).map(String), fc.integer({ min: -1e6, max: 1e6 }).map(n => (n / 1000).toFixed(3)),
    fc.constantFrom('', ' ', '\u00a0', ' 1.5 ', '+1', '-', '.', '.5', '5.', '1.2.3', '-0', '0.500', '1,5', '|', '€', '\u0132', '\u{1f600}', '9'.repeat(15), '9'.repeat(16), '1.50000000000000000'))
  const delimiter = fc.constantFrom('|', ',', ';', '||', '.', '-', '1', ' ', '€', '\u00a0', '\t', '\0')

  it('are those of the pieces', () => {
    const values = new JoinedValues()
    fc.assert(fc.property(fc.array(piece, { maxLength: 300 }), delimiter, (pieces, by) => {
      const text = pieces.join(by)
      values.read(text, by)
      const expected = apart(text, by)
      expect(together(values)).toEqual(expected)
      expect(values.present).toBe(expected.filter(value => value !== 'blank').length)
    }), { numRuns: 2000 })
  })

  it('are read of texts of any length', () => {
    const values = new JoinedValues()
    values.read(Array.from({ length: 100_000 }, (_, i) => i).join(';'), ';')
    expect([values.count, values.mantissas[99_999]]).toEqual([100_000, 99_999])
  })
})
