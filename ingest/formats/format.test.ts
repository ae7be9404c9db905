import { describe, expect, it } from 'vitest'
import { bytesOf } from '../../test/format-reads.js'
import { detectFormat } from './format.js'

describe('the format of a body', () => {
  it.each([
    ['application/json; charset=utf-8', undefined, undefined, '', 'json'], ['application/x-ndjson', undefined, undefined, '', 'ndjson'],
    ['text/csv;header=present', undefined, undefined, '', 'csv'], ['text/csv', 'json', undefined, '', 'json'],
    [undefined, undefined, 'reads.NDJSON', '', 'ndjson'], [undefined, undefined, 'reads.csv.gz', '', 'csv'],
    ['text/plain', undefined, undefined, ' [{"meter":1}]', 'json'], [undefined, undefined, '-', '\ufeff{"reads":[', 'json'],
    [undefined, undefined, undefined, '{"meter":"a"}\n{"meter":"b"}\n', 'ndjson'], [undefined, undefined, undefined, '{"meter":"a"}\n', 'json'],
    ['application/octet-stream', undefined, 'x.dat', 'meter,start,value\nM', 'csv'],
    ['application/xml', undefined, undefined, '<?xml version="1.0"?><a:feed xmlns:a="x">', 'espi'], [undefined, undefined, 'x.xml', '<feed/>', 'espi'],
    [undefined, undefined, undefined, '\ufeff <!-- one --> <entry/>', 'espi'], ['application/json', 'xml', undefined, '<IntervalBlock>', 'espi'],
  ])('%s %s %s %j: %s', (contentType, explicit, fileName, first, name) => {
    expect(detectFormat(contentType, explicit, fileName, bytesOf(first)).name).toBe(name)
  })

  it.each([
    ['application/xml', undefined, '<html/>'], ['text/csv; charset=iso-8859-1', undefined, ''], ['text/csv', 'lodestar', ''],
    [undefined, undefined, '<svg>'], ['application/octet-stream', undefined, '\u0000\u0001'], ['constructor', undefined, ''],
  ])('%s %s %j is refused with 415', (contentType, explicit, first) => {
    expect(() => detectFormat(contentType, explicit, undefined, bytesOf(first))).toThrowError(expect.objectContaining({ status: 415 }))
  })
})
