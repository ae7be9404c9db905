import type { FlowCode, QualityCode } from '../../engine/read-batch.js'
import type { CsvMapping } from './mapping.js'
import { flowOf, intervalKind, qualityOf } from './words.js'

/** What a mapping makes of the words in a file's columns; undefined for the word of a file that has no such column. */
export class MappedWords {
  readonly #mapping: CsvMapping

  constructor(mapping: CsvMapping) {
    this.#mapping = mapping
  }

  /** @returns undefined for an unknown word */
  flow(word: string | undefined): FlowCode | undefined {
    const { flowMap, flow } = this.#mapping
    return flowOf(word === undefined || (word === '' && !Object.hasOwn(flowMap, '')) ? flow : mapped(flowMap, word))
  }

  /** @returns undefined for an unknown word */
  quality(word: string | undefined): QualityCode | undefined {
    const { qualityMap } = this.#mapping
    return qualityOf(word === undefined || (word === '' && !Object.hasOwn(qualityMap, '')) ? 'actual' : mapped(qualityMap, word))
  }

  /** @returns seconds; the standing ones of an empty field, undefined for what fits no grid */
  interval(word: string | undefined, standingS: number): number | undefined {
    if (word === undefined || word === '') return standingS
    return /^[1-9]\d{0,8}$/.test(word) && intervalKind(Number(word)) !== 'none' ? Number(word) : undefined
  }
}

/** What the mapping makes of a word of the file. */
function mapped(map: Readonly<Record<string, string>>, word: string): string {
  if (Object.hasOwn(map, word)) return map[word]
  return word !== '' && Object.hasOwn(map, '*') ? map['*'] : word
}
