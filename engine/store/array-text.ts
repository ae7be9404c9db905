import type pg from 'pg'
import { MISSING } from '../read-batch.js'
import { cutFloat64, cutInt32 } from '../slab.js'
import { typeParsers } from './db.js'

// pg reads every field as UTF-8 text, also with its `binary` flag (8.23: bytes from 0x80 on come out as U+FFFD), so rows
// are read in text form. Its own array parser makes a string and a call per element; reading the characters in place
// into a typed array takes about a tenth of that.

const INT2_ARRAY = 1005
const INT4_ARRAY = 1007
const INT8_ARRAY = 1016
const COMMA = 44
const DASH = 45
const ZERO = 48
const NULL_N = 78

/** Number of elements of a one-dimensional array in text form: `{1,NULL,-3}`. */
function countElements(text: string): number {
  if (text.length <= 2) return 0
  let n = 1
  for (let i = 1; i < text.length; i++) if (text.charCodeAt(i) === COMMA) n++
  return n
}

/** Fills a typed array from `{1,NULL,-3}`; NULL becomes `missing`. */
function fill<T extends Int16Array | Int32Array | Float64Array>(out: T, text: string, missing: number): T {
  let at = 1
  for (let i = 0; i < out.length; i++) {
    let code = text.charCodeAt(at)
    if (code === NULL_N) {
      out[i] = missing
      at += 5
      continue
    }
    const negative = code === DASH
    if (negative) code = text.charCodeAt(++at)
    let value = 0
    // Ends at the comma or the closing brace, both outside of 0-9.
    for (let digit = code - ZERO; digit >= 0 && digit <= 9; digit = text.charCodeAt(++at) - ZERO) value = value * 10 + digit
    out[i] = negative ? -value : value
    at++
  }
  return out
}

/** An int4[] as typed array, which may share its buffer with others; NULL is {@link MISSING}. */
export function int4Array(text: string): Int32Array {
  return fill(cutInt32(countElements(text)), text, MISSING)
}

/** An int2[] as typed array; NULL is 0. */
export function int2Array(text: string): Int16Array {
  return fill(new Int16Array(countElements(text)), text, 0)
}

/** An int8[] of integers below 2^53 as typed array, which may share its buffer with others; NULL is 0. */
export function int8Array(text: string): Float64Array {
  return fill(cutFloat64(countElements(text)), text, 0)
}

/** Type parsers of statements that read day blocks: those of every connection, and integer arrays as typed arrays. */
export const arrayParsers: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') => {
    if (oid === INT4_ARRAY) return int4Array
    if (oid === INT2_ARRAY) return int2Array
    if (oid === INT8_ARRAY) return int8Array
    return typeParsers.getTypeParser(oid, format) as (text: string) => unknown
  }) as pg.CustomTypesConfig['getTypeParser'],
}
