/**
 * The proleptic Gregorian calendar as arithmetic on day numbers (days since 1970-01-01), without Date: these run once
 * per block and per period, and never depend on the process's own zone.
 */

export const DAY_S = 86400

/** Days from 1970-01-01 back to 0000-03-01, where the 400-year cycle below begins. */
const CYCLE_START = 719468
const DAYS_PER_CYCLE = 146097

export interface CivilDate {
  year: number
  /** 1-12. */
  month: number
  /** 1-31. */
  day: number
}

/** Day number of a date; the month and day are not checked, and a month outside 1-12 is not carried. */
export function dayOfCivil(year: number, month: number, day: number): number {
  // Years begin in March, so that the leap day is the last of its year and needs no case.
  const y = month <= 2 ? year - 1 : year
  const cycle = Math.floor(y / 400)
  const yearOfCycle = y - cycle * 400
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1
  const dayOfCycle = yearOfCycle * 365 + Math.floor(yearOfCycle / 4) - Math.floor(yearOfCycle / 100) + dayOfYear
  return cycle * DAYS_PER_CYCLE + dayOfCycle - CYCLE_START
}

/** The date of a day number. */
export function civilOfDay(dayNumber: number): CivilDate {
  const z = dayNumber + CYCLE_START
  const cycle = Math.floor(z / DAYS_PER_CYCLE)
  const dayOfCycle = z - cycle * DAYS_PER_CYCLE
  const leapDays = Math.floor(dayOfCycle / 1460) - Math.floor(dayOfCycle / 36524) + Math.floor(dayOfCycle / 146096)
  const yearOfCycle = Math.floor((dayOfCycle - leapDays) / 365)
  const dayOfYear = dayOfCycle - (365 * yearOfCycle + Math.floor(yearOfCycle / 4) - Math.floor(yearOfCycle / 100))
  const marchMonth = Math.floor((5 * dayOfYear + 2) / 153)
  const day = dayOfYear - Math.floor((153 * marchMonth + 2) / 5) + 1
  const month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
  return { year: yearOfCycle + cycle * 400 + (month <= 2 ? 1 : 0), month, day }
}

/** Number of days in a month (1-12) of a year. */
export function monthLength(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

/** Day number of the first of the month in which the day lies. */
export function monthStart(dayNumber: number): number {
  return dayNumber - civilOfDay(dayNumber).day + 1
}

/** Number of days in the month in which the day lies. */
export function daysInMonth(dayNumber: number): number {
  const { year, month } = civilOfDay(dayNumber)
  return monthLength(year, month)
}

/** The same day of the month n months later (earlier for n < 0), or the last day of a month that is shorter. */
export function addMonths(dayNumber: number, n: number): number {
  const { year, month, day } = civilOfDay(dayNumber)
  return dayInMonth(year * 12 + month - 1 + n, day)
}

/** Day number of day N of a month, or of its last day where it is shorter. @param index year * 12 + month - 1 */
export function dayInMonth(index: number, day: number): number {
  const year = Math.floor(index / 12)
  const month = index - year * 12 + 1
  return dayOfCivil(year, month, Math.min(day, monthLength(year, month)))
}
