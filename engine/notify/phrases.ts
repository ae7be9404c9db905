import type { AlertKind, Category, NoticeTemplate } from './content.js'

/** Facts of an alert in words of a language: numbers with their units, days and times as a member reads them. */
export interface AlertWords {
  readonly account: string
  readonly limit: string
  readonly value: string
  /** The flow's verb and noun: used, sent back. */
  readonly verb: string
  readonly noun: string
  /** `on October 1, 2026`. */
  readonly onDay: string
  /** `on Oct 1`. */
  readonly onDayShort: string
  /** `from October 1, 2026 to October 31, 2026`. */
  readonly inPeriod: string
  /** `since Oct 1`. */
  readonly sinceShort: string
  /** Of what may be judged by the day or by the billing period: `on October 1, 2026`, `on Oct 1`, `in a day`. */
  readonly when: string
  readonly whenShort: string
  readonly per: string
  /** `from 5:00 PM to 6:00 PM on October 1, 2026`, and without the day. */
  readonly inHour: string
  readonly inHourShort: string
  readonly usual: string
  readonly low: string
  readonly high: string
}

/** What one kind of alert says. */
export interface KindWords {
  /** Subject after the account's name. */
  headline(w: AlertWords): string
  /** The headline when it is taken back. */
  undone(w: AlertWords): string
  /** The account did this: completes "Lake cabin …". */
  claim(w: AlertWords): string
  /** For 160 characters, after the account's name. */
  short(w: AlertWords): string
  shortUndone(w: AlertWords): string
  /** The limit with what it is counted by. */
  limitPer(w: AlertWords): string
}

export interface NoticeWords {
  readonly account: string
  readonly amount: string | null
  readonly dueOn: string | null
  readonly startsAt: string | null
  readonly endsAt: string | null
}

/** Every word that members read, in one language: a language without a phrase does not compile. */
export interface Phrases {
  /** BCP 47, for numbers and the mail's markup. */
  readonly tag: string
  longDay(year: number, month: number, day: number): string
  shortDay(month: number, day: number): string
  clock(hour: number, minute: number): string
  onDay(day: string): string
  fromTo(from: string, to: string): string
  since(day: string): string
  inBillingPeriod(fromTo: string): string
  readonly perDay: string
  readonly perBillingPeriod: string
  readonly verbs: Readonly<Record<'delivered' | 'received' | 'net', { verb: string; noun: string }>>
  readonly kinds: Readonly<Record<AlertKind, KindWords>>
  readonly notices: Readonly<Record<NoticeTemplate, { subject(w: NoticeWords): string; body(w: NoticeWords): string; short(w: NoticeWords): string }>>
  readonly categories: Readonly<Record<Category, string>>
  alertSubject(account: string, headline: string): string
  correctionSubject(account: string, undone: string): string
  correctionOpening(account: string, claim: string): string
  readonly facts: {
    readonly value: (noun: string) => string
    readonly corrected: (noun: string) => string
    readonly limit: string
    readonly passed: string
    readonly meter: string
    readonly tou: string
    readonly range: string
    readonly usual: string
    readonly data: string
    readonly dueOn: string
    readonly from: string
    readonly until: string
  }
  complete(present: number, due: number): string
  estimated(count: number): string
  readonly smsCorrection: string
  passedShort(at: string): string
  smsReads(present: number, due: number): string
  /** Ends every SMS that is no answer. */
  readonly smsStop: string
  codeSubject(code: string): string
  codeBody(code: string, minutes: number, utility: string): string
  codeShort(code: string, minutes: number, utility: string): string
  stopped(category: string, utility: string): string
  resumed(category: string, utility: string): string
  help(utility: string, phone: string | null): string
  readonly everything: string
  readonly yourUtility: string
  digestSubject(account: string, count: number): string
  readonly digestOpening: string
  digestShort(count: number): string
  /** Why this came, and how to end it. */
  because(category: string, utility: string): string
  unsubscribe(category: string): string
  questions(utility: string, phone: string): string
  readonly unsubscribePage: {
    readonly unknown: string
    readonly all: string
    title(utility: string): string
    question(category: string, utility: string, address: string): string
    done(category: string, utility: string): string
  }
  readonly linkNames: Readonly<Record<string, string>>
  chartAlt(day: string, peak: string | null): string
  chartNote(day: string, peak: string): string
}
