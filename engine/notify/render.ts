import { getZone } from '../time/zone.js'
import type { Category, MessageContent, StoredSnapshot } from './content.js'
import { shorten, SMS_LENGTH, toGsm } from './gsm.js'
import type { Phrases } from './phrases.js'
import { alertWords, localTime, noticeWords, phrasesOf } from './words.js'

/** What the utility says about itself in every message. */
export interface UtilityFace {
  readonly name: string | null
  readonly phone: string | null
  /** By what they are for: usage, preferences, outage, pay, website; others under their own name. */
  readonly links: Readonly<Record<string, string>>
}

export interface RenderContext {
  /** BCP 47 tag of the contact's language. */
  readonly language: string
  readonly category: Category
  readonly utility: UtilityFace
  /** One click ends this category to this address; null where there is nothing to end (a code, a reply). */
  readonly unsubscribeUrl: string | null
}

/** A message in words. The mail's text and HTML are made of the same parts. */
export interface MessageView {
  readonly language: string
  readonly subject: string
  /** The first sentence, and what follows it. */
  readonly paragraphs: readonly string[]
  readonly facts: readonly { readonly label: string; readonly value: string }[]
  /** Of a digest: one line for each message that it holds. */
  readonly lines: readonly string[]
  readonly because: string | null
  readonly questions: string | null
  readonly links: readonly { readonly href: string; readonly text: string }[]
  readonly unsubscribe: { readonly href: string; readonly text: string } | null
  readonly utility: string
  /** The whole SMS: GSM-7, at most 160 characters. */
  readonly sms: string
  /** The message as one line of a digest. */
  readonly line: string
}

/** Writes one message; {@link digestView} several. Pure. */
export function messageView(content: MessageContent, context: RenderContext): MessageView {
  const p = phrasesOf(context.language)
  switch (content.t) {
    case 'alert':
    case 'correction':
      return alertView(p, content.alert, content.t, context)
    case 'code': {
      const from = context.utility.name ?? p.yourUtility
      return {
        ...frame(p, context, false), subject: p.codeSubject(content.code), line: '', facts: [], lines: [],
        paragraphs: p.codeBody(content.code, content.minutes, from).trim().split('\n\n'),
        sms: withStop(p, p.codeShort(content.code, content.minutes, shorten(from, 60))),
      }
    }
    case 'notice':
      return noticeView(p, content, context)
    case 'reply': {
      const from = shorten(context.utility.name ?? p.yourUtility, 40)
      const what = content.category === 'all' ? p.everything : p.categories[content.category]
      const said = content.word === 'help' ? p.help(from, context.utility.phone) : p[content.word](what, from)
      return {
        ...frame(p, context, false), subject: '', paragraphs: [said], facts: [], lines: [], line: '', sms: shorten(toGsm(said), SMS_LENGTH),
      }
    }
  }
}

/** Writes several messages to one contact as one. @param contents at least one, in the order that they were written */
export function digestView(contents: readonly MessageContent[], context: RenderContext): MessageView {
  const p = phrasesOf(context.language)
  const views = contents.map((c) => messageView(c, context))
  const first = contents[0]
  const account = first.t === 'alert' || first.t === 'correction' ? first.alert.account : first.t === 'notice' ? first.account : ''
  const lines = views.map((v) => v.line)
  return {
    ...frame(p, context, true),
    subject: p.digestSubject(account, views.length),
    paragraphs: [p.digestOpening],
    facts: [],
    lines,
    sms: views.length === 1 ? views[0].sms : withStop(p, `${smsFrom(context)}${p.digestShort(views.length)} ${lines.join(' / ')}`),
    line: '',
  }
}

/** The mail's plain text. */
export function plainText(v: MessageView): string {
  const blocks = [
    ...v.paragraphs,
    ...(v.facts.length === 0 ? [] : [v.facts.map((f) => `${f.label}: ${f.value}`).join('\n')]),
    ...(v.lines.length === 0 ? [] : [v.lines.map((line) => `- ${line}`).join('\n')]),
    ...(v.links.length === 0 ? [] : [v.links.map((l) => `${l.text}: ${l.href}`).join('\n')]),
    [v.because, v.questions].filter((t) => t !== null).join(' '),
    v.unsubscribe === null ? '' : `${v.unsubscribe.text}: ${v.unsubscribe.href}`,
  ]
  return `${blocks.filter((block) => block !== '').join('\n\n')}\n`
}

type Frame = Pick<MessageView, 'language' | 'because' | 'questions' | 'links' | 'unsubscribe' | 'utility'>

function frame(p: Phrases, { category, utility, unsubscribeUrl }: RenderContext, isSubscribed: boolean): Frame {
  const name = utility.name ?? p.yourUtility
  return {
    language: p.tag,
    utility: name,
    because: isSubscribed ? p.because(p.categories[category], name) : null,
    questions: utility.phone === null ? null : p.questions(name, utility.phone),
    links: isSubscribed ? Object.entries(utility.links).map(([key, href]) => ({ href, text: p.linkNames[key] ?? key })) : [],
    unsubscribe: unsubscribeUrl === null ? null : { href: unsubscribeUrl, text: p.unsubscribe(p.categories[category]) },
  }
}

function alertView(p: Phrases, s: StoredSnapshot, t: 'alert' | 'correction', context: RenderContext): MessageView {
  const w = alertWords(p, s)
  const kind = p.kinds[s.kind]
  const isAlert = t === 'alert'
  const zone = getZone(s.zone)
  const due = Math.max(s.expected, s.present)
  const passed = isAlert && s.crossedAtS !== null ? localTime(p, s.crossedAtS, zone) : null
  const held = p.complete(s.present, due)
  const has = { limit: s.kind !== 'unusual' && s.kind !== 'no-usage' }
  const facts = [
    { label: (isAlert ? p.facts.value : p.facts.corrected)(w.noun), value: w.value },
    ...(has.limit ? [{ label: p.facts.limit, value: kind.limitPer(w) }] : []),
    ...(s.range === null || s.range === undefined ? [] : [{ label: p.facts.range, value: p.fromTo(w.low, w.high) }]),
    ...(s.usual === null || s.usual === undefined ? [] : [{ label: p.facts.usual, value: w.usual }]),
    ...(passed === null ? [] : [{ label: p.facts.passed, value: passed }]),
    ...(s.meter === null ? [] : [{ label: p.facts.meter, value: s.meter }]),
    ...(s.touPeriod === null || s.touPeriod === undefined ? [] : [{ label: p.facts.tou, value: s.touPeriod }]),
    { label: p.facts.data, value: s.estimated === 0 ? held : `${held}, ${p.estimated(s.estimated)}` },
  ]
  const claim = kind.claim(w)
  const short = isAlert
    ? `${kind.short(w)}${passed === null ? '' : ` ${p.passedShort(passed)}`} ${p.smsReads(s.present, due)}`
    : `${p.smsCorrection} ${kind.shortUndone(w)}`
  return {
    ...frame(p, context, true),
    subject: isAlert ? p.alertSubject(s.account, kind.headline(w)) : p.correctionSubject(s.account, kind.undone(w)),
    paragraphs: [isAlert ? `${s.account} ${claim}.` : p.correctionOpening(s.account, claim)],
    facts,
    lines: [],
    sms: sms(p, context, s.account, short),
    line: `${s.account}: ${isAlert ? kind.short(w) : `${p.smsCorrection} ${kind.shortUndone(w)}`}`,
  }
}

function noticeView(p: Phrases, { account, template, zone, params }: MessageContent & { t: 'notice' }, context: RenderContext): MessageView {
  const words = noticeWords(p, account, params, getZone(zone))
  const notice = p.notices[template]
  const said = params.text ?? ''
  const base = frame(p, context, true)
  const short = [notice.short(words), said].filter((t) => t !== '').join(' ')
  return {
    ...base,
    links: params.link === undefined ? base.links : [{ href: params.link, text: params.link }, ...base.links],
    subject: notice.subject(words),
    paragraphs: [notice.body(words), said].filter((t) => t !== ''),
    facts: [
      ...(template !== 'bill-available' || words.dueOn === null ? [] : [{ label: p.facts.dueOn, value: words.dueOn }]),
      ...(words.startsAt === null || template === 'outage' ? [] : [{ label: p.facts.from, value: words.startsAt }]),
      ...(words.endsAt === null || template === 'restoration' ? [] : [{ label: p.facts.until, value: words.endsAt }]),
    ],
    lines: [],
    sms: sms(p, context, account, short),
    line: `${account}: ${short}`,
  }
}

/** Who writes, before a text of several messages. */
function smsFrom({ utility }: RenderContext): string {
  return utility.name === null ? '' : `${shorten(toGsm(utility.name), 40)}: `
}

/** Least that names are shortened to. */
const LEAST_NAME = 12

/**
 * Who writes, about what, and the facts. The account's name gives way first when a text is too long, the utility's next, and
 * then the end of the facts; how to stop always stays.
 */
function sms(p: Phrases, { utility }: RenderContext, account: string, facts: string): string {
  const rest = toGsm(facts)
  const from = utility.name === null ? '' : toGsm(utility.name)
  const room = SMS_LENGTH - toGsm(p.smsStop).length - rest.length - 2
  const name = shorten(toGsm(account), Math.max(LEAST_NAME, room - (from === '' ? 0 : from.length + 2)))
  const prefix = from === '' ? '' : `${shorten(from, Math.max(LEAST_NAME, room - name.length - 2))}: `
  return withStop(p, `${prefix}${name}: ${rest}`)
}

function withStop(p: Phrases, text: string): string {
  const stop = toGsm(p.smsStop)
  return shorten(toGsm(text), SMS_LENGTH - stop.length) + stop
}

/** The day that a chart beside the message shows; null where none belongs to it. */
export function chartDay(content: MessageContent): { day: number; zone: string } | null {
  if (content.t !== 'alert') return null
  const { alert } = content
  const zone = getZone(alert.zone)
  if (alert.crossedAtS === null) return { day: alert.period.startDay, zone: alert.zone }
  // The crossing is the end of an interval: at midnight it belongs to the day before.
  return { day: zone.dayOf(alert.crossedAtS - 1), zone: alert.zone }
}

