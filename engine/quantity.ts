/**
 * What a channel or register measures, beside its flow. Every quantity has one unit of its own in which its values are
 * kept, and the units that differ from it by a power of ten come to the same quantity: conversion never loses a digit.
 * Units that differ by another factor (cubic feet and gallons) are quantities apart. Only energy counts into usage
 * totals, load and thresholds.
 */
export const Quantity = {
  energy: 1,
  'reactive-energy': 2,
  'apparent-energy': 3,
  power: 4,
  'reactive-power': 5,
  'apparent-power': 6,
  voltage: 7,
  current: 8,
  'power-factor': 9,
  frequency: 10,
  temperature: 11,
  'volume-m3': 20,
  'volume-ft3': 21,
  'volume-gal': 22,
  'volume-acre-ft': 23,
  'heat-therm': 24,
  'heat-btu': 25,
  'heat-joule': 26,
  mass: 27,
  count: 30,
} as const
export type QuantityName = keyof typeof Quantity
export type QuantityCode = (typeof Quantity)[QuantityName]

/** Unit that the values of each quantity are kept in. */
const UNIT_OF: Readonly<Record<QuantityName, string>> = {
  energy: 'kWh', 'reactive-energy': 'kVArh', 'apparent-energy': 'kVAh', power: 'kW', 'reactive-power': 'kVAr',
  'apparent-power': 'kVA', voltage: 'V', current: 'A', 'power-factor': 'pf', frequency: 'Hz', temperature: 'degC',
  'volume-m3': 'm3', 'volume-ft3': 'ft3', 'volume-gal': 'gal', 'volume-acre-ft': 'acre-ft', 'heat-therm': 'therm',
  'heat-btu': 'Btu', 'heat-joule': 'J', mass: 'lb', count: 'count',
}

const NAMES = new Map<number, QuantityName>((Object.keys(Quantity) as QuantityName[]).map((name) => [Quantity[name], name]))

export const quantityNames = Object.keys(Quantity) as QuantityName[]

/** Name of a stored quantity. */
export function quantityName(code: number): QuantityName {
  return NAMES.get(code) ?? 'energy'
}

/** Unit in which a quantity's values are kept. */
export function unitOfQuantity(code: number): string {
  return UNIT_OF[quantityName(code)]
}

/** True where values add up over time: energies and volumes, not voltages or powers. */
export function isAdditive(code: number): boolean {
  return code <= Quantity['apparent-energy'] || (code >= Quantity['volume-m3'] && code <= Quantity.count)
}

/** True where a current or voltage transformer's ratio scales the value. */
export function isScaledByMultiplier(code: number): boolean {
  return code <= Quantity['apparent-power'] || code >= Quantity['volume-m3']
}

/** A unit of a source: the quantity it measures and the decimals that it adds to a value's own (1 Wh is 10^-3 kWh: 3). */
export interface Unit {
  readonly quantity: QuantityCode
  readonly shift: number
}

const PREFIXED: readonly [string, QuantityName][] = [
  ['wh', 'energy'], ['varh', 'reactive-energy'], ['vah', 'apparent-energy'], ['w', 'power'], ['var', 'reactive-power'],
  ['va', 'apparent-power'],
]

/** Decimals that each unit adds, by its word in lower case. */
const UNITS: ReadonlyMap<string, Unit> = new Map([
  // MWh is mega in every format here: no meter sends milliwatt-hours.
  ...PREFIXED.flatMap(([word, name]): [string, Unit][] => [
    [word, { quantity: Quantity[name], shift: 3 }], [`k${word}`, { quantity: Quantity[name], shift: 0 }],
    [`m${word}`, { quantity: Quantity[name], shift: -3 }], [`g${word}`, { quantity: Quantity[name], shift: -6 }]]),
  ...([
    ['v', 'voltage', 0], ['volt', 'voltage', 0], ['volts', 'voltage', 0], ['kv', 'voltage', -3],
    ['a', 'current', 0], ['amp', 'current', 0], ['amps', 'current', 0], ['ka', 'current', -3],
    ['pf', 'power-factor', 0], ['hz', 'frequency', 0], ['degc', 'temperature', 0],
    ['m3', 'volume-m3', 0], ['m³', 'volume-m3', 0], ['cbm', 'volume-m3', 0], ['l', 'volume-m3', 3], ['litre', 'volume-m3', 3],
    ['liter', 'volume-m3', 3], ['litres', 'volume-m3', 3], ['liters', 'volume-m3', 3],
    ['ft3', 'volume-ft3', 0], ['ft³', 'volume-ft3', 0], ['cf', 'volume-ft3', 0], ['cuft', 'volume-ft3', 0], ['cubic feet', 'volume-ft3', 0],
    ['ccf', 'volume-ft3', -2], ['mcf', 'volume-ft3', -3],
    ['gal', 'volume-gal', 0], ['gals', 'volume-gal', 0], ['gallon', 'volume-gal', 0], ['gallons', 'volume-gal', 0], ['kgal', 'volume-gal', -3],
    ['acft', 'volume-acre-ft', 0], ['acre-ft', 'volume-acre-ft', 0],
    ['therm', 'heat-therm', 0], ['therms', 'heat-therm', 0], ['dth', 'heat-therm', -1],
    ['btu', 'heat-btu', 0], ['mmbtu', 'heat-btu', -6], ['j', 'heat-joule', 0], ['mj', 'heat-joule', -6], ['gj', 'heat-joule', -9],
    ['lb', 'mass', 0], ['lbs', 'mass', 0], ['count', 'count', 0], ['pulse', 'count', 0], ['pulses', 'count', 0],
  ] as const).map(([word, name, shift]): [string, Unit] => [word, { quantity: Quantity[name], shift }]),
])

export const unitWords = 'kWh, Wh, MWh, kVArh, kVAh, kW, kVAr, kVA, V, A, m3, L, ft3, CCF, MCF, gal, therm, Btu, count'

/** Unit of a word in any case; undefined for an unknown one. */
export function unitOf(word: string): Unit | undefined {
  return UNITS.get(word) ?? UNITS.get(word.toLowerCase())
}
