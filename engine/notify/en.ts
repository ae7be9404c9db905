import type { AlertWords, KindWords, Phrases } from './phrases.js'

const LONG = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December']

/** A limit on energy or cost that was passed upwards. */
function above(per: string, when: (w: AlertWords) => string, short: (w: AlertWords) => string): KindWords {
  return {
    headline: (w) => `more than ${w.limit} ${per}`,
    undone: (w) => `not above ${w.limit} ${per}`,
    claim: (w) => `${w.verb} more than ${w.limit} ${when(w)}`,
    short: (w) => `${w.value} ${w.verb} ${short(w)}, limit ${w.limit.split(' ')[0]}.`,
    shortUndone: (w) => `${w.value} ${w.verb} ${short(w)}, not above your limit ${w.limit.split(' ')[0]}.`,
    limitPer: (w) => `${w.limit} ${per}`,
  }
}

function projected(cost: boolean): KindWords {
  const what = cost ? 'cost' : 'use'
  return {
    headline: (w) => `on the way to more than ${w.limit} in this billing period`,
    undone: (w) => `not on the way to more than ${w.limit} in this billing period`,
    claim: (w) => `is on the way to ${what} more than ${w.limit} in the billing period ${w.inPeriod}`,
    short: (w) => `about ${w.value} expected in the period ${w.sinceShort}, limit ${w.limit}.`,
    shortUndone: (w) => `about ${w.value} expected in the period ${w.sinceShort}, not above your limit ${w.limit}.`,
    limitPer: (w) => `${w.limit} in a billing period`,
  }
}

const cost: KindWords = {
  headline: (w) => `more than ${w.limit} in a billing period`,
  undone: (w) => `not above ${w.limit} in a billing period`,
  claim: (w) => `cost more than ${w.limit} in the billing period ${w.inPeriod}`,
  short: (w) => `${w.value} of electricity ${w.sinceShort}, limit ${w.limit}.`,
  shortUndone: (w) => `${w.value} of electricity ${w.sinceShort}, not above your limit ${w.limit}.`,
  limitPer: (w) => `${w.limit} in a billing period`,
}

/** English, as United States co-operatives write it. */
export const en: Phrases = {
  tag: 'en-US',
  longDay: (year, month, day) => `${LONG[month - 1]} ${day}, ${year}`,
  shortDay: (month, day) => `${LONG[month - 1].slice(0, 3)} ${day}`,
  clock: (hour, minute) => `${hour % 12 === 0 ? 12 : hour % 12}:${String(minute).padStart(2, '0')} ${hour < 12 ? 'AM' : 'PM'}`,
  onDay: (day) => `on ${day}`,
  fromTo: (from, to) => `from ${from} to ${to}`,
  since: (day) => `since ${day}`,
  inBillingPeriod: (fromTo) => `in the billing period ${fromTo}`,
  perDay: 'in a day',
  perBillingPeriod: 'in a billing period',
  verbs: {
    delivered: { verb: 'used', noun: 'Used' }, received: { verb: 'sent back', noun: 'Sent back' },
    net: { verb: 'used, less what was sent back,', noun: 'Used less sent back' },
  },
  kinds: {
    'hour-usage': above('in an hour', (w) => w.inHour, (w) => w.inHourShort),
    'day-usage': above('in a day', (w) => w.onDay, (w) => w.onDayShort),
    'period-usage': above('in a billing period', (w) => `in the billing period ${w.inPeriod}`, (w) => w.sinceShort),
    'period-cost': cost,
    'projected-usage': projected(false),
    'projected-cost': projected(true),
    demand: {
      headline: (w) => `demand above ${w.limit}`,
      undone: (w) => `demand not above ${w.limit}`,
      claim: (w) => `reached a demand above ${w.limit} in the billing period ${w.inPeriod}`,
      short: (w) => `demand ${w.value}, limit ${w.limit}.`,
      shortUndone: (w) => `demand ${w.value} ${w.sinceShort}, not above your limit ${w.limit}.`,
      limitPer: (w) => `${w.limit} at any time`,
    },
    unusual: {
      headline: (w) => `unusual use ${w.onDayShort}`,
      undone: (w) => `no unusual use ${w.onDayShort}`,
      claim: (w) => `${w.verb} ${w.value} ${w.onDay}, unlike its usual ${w.usual}`,
      short: (w) => `${w.value} ${w.verb} ${w.onDayShort}, usually ${w.usual}.`,
      shortUndone: (w) => `${w.value} ${w.verb} ${w.onDayShort}, not unusual after all.`,
      limitPer: (w) => w.limit,
    },
    'low-usage': {
      headline: (w) => `less than ${w.limit} ${w.per}`,
      undone: (w) => `not below ${w.limit} ${w.per}`,
      claim: (w) => `${w.verb} less than ${w.limit} ${w.when}`,
      short: (w) => `only ${w.value} ${w.verb} ${w.whenShort}, low limit ${w.limit}.`,
      shortUndone: (w) => `${w.value} ${w.verb} ${w.whenShort}, not below your limit ${w.limit}.`,
      limitPer: (w) => `at least ${w.limit} ${w.per}`,
    },
    'no-usage': {
      headline: (w) => `no use ${w.whenShort}`,
      undone: (w) => `there was use ${w.whenShort}`,
      claim: (w) => `${w.verb} no electricity ${w.when}`,
      short: (w) => `no electricity ${w.verb} ${w.whenShort}.`,
      shortUndone: (w) => `${w.value} ${w.verb} ${w.whenShort}, so there was use.`,
      limitPer: (w) => w.limit,
    },
  },
  notices: {
    'bill-available': {
      subject: (w) => `Your bill for ${w.account} is ready`,
      body: (w) => `Your bill for ${w.account} is ready${w.amount === null ? '' : `: ${w.amount}`}${w.dueOn === null ? '' : `, due on ${w.dueOn}`}.`,
      short: (w) => `your bill is ready${w.amount === null ? '' : `: ${w.amount}`}${w.dueOn === null ? '' : `, due ${w.dueOn}`}.`,
    },
    outage: {
      subject: (w) => `Power is out at ${w.account}`,
      body: (w) => `The meter at ${w.account} reported that its power went out${w.startsAt === null ? '' : ` at ${w.startsAt}`}. We will tell you when it is back.`,
      short: (w) => `power went out${w.startsAt === null ? '' : ` at ${w.startsAt}`}. We will tell you when it is back.`,
    },
    restoration: {
      subject: (w) => `Power is back at ${w.account}`,
      body: (w) => `The meter at ${w.account} reported that its power came back${w.endsAt === null ? '' : ` at ${w.endsAt}`}. If yours is still out, call us.`,
      short: (w) => `power came back${w.endsAt === null ? '' : ` at ${w.endsAt}`}. If yours is still out, call us.`,
    },
    'planned-outage': {
      subject: (w) => `Planned outage at ${w.account}`,
      body: (w) => `We will switch the power at ${w.account} off for work on the lines${during(w.startsAt, w.endsAt)}.`,
      short: (w) => `planned outage${during(w.startsAt, w.endsAt)}.`,
    },
    'peak-time': {
      subject: () => 'Peak time: please use less if you can',
      body: (w) => `Everybody needs electricity at once${during(w.startsAt, w.endsAt)}. What you can put off until later keeps the costs of the co-operative down.`,
      short: (w) => `peak time${during(w.startsAt, w.endsAt)}. Please use less if you can.`,
    },
    general: { subject: (w) => `A notice for ${w.account}`, body: () => '', short: () => '' },
  },
  categories: { usage: 'usage alerts', service: 'service notices', billing: 'billing notices' },
  alertSubject: (account, headline) => `${account}: ${headline}`,
  correctionSubject: (account, undone) => `Correction for ${account}: ${undone}`,
  correctionOpening: (account, claim) => `We told you that ${account} ${claim}. The readings were corrected since, and this does not hold any more.`,
  facts: {
    value: (noun) => noun, corrected: (noun) => `${noun} after the correction`, limit: 'Your limit', passed: 'Limit passed', meter: 'Meter',
    tou: 'Time of use', range: 'Expected range', usual: 'Usual', data: 'Data', dueOn: 'Due on', from: 'From', until: 'Until',
  },
  complete: (present, due) => present === due ? `all ${due} readings due so far` : `${present} of ${due} readings due so far`,
  estimated: (count) => `${count} of them estimated`,
  smsCorrection: 'correction:',
  passedShort: (at) => `Passed ${at}.`,
  smsReads: (present, due) => `${present}/${due} reads.`,
  smsStop: ' Reply STOP to end.',
  codeSubject: (code) => `${code} is your verification code`,
  codeBody: (code, minutes, utility) => `${code} is the code to confirm this address for messages of ${utility}.\n\n`
    + `It is good for ${minutes} minutes. If you did not ask for it, ignore this message: nothing more will be sent.\n`,
  codeShort: (code, minutes, utility) => `${code} is your code for messages of ${utility}. Good for ${minutes} minutes.`,
  stopped: (category, utility) => `You will get no more ${category} of ${utility} by text. Reply START to get them again, HELP for help.`,
  resumed: (category, utility) => `You will get ${category} of ${utility} by text again. Reply STOP to end, HELP for help.`,
  help: (utility, phone) => `${utility}: texts about your electricity.${phone === null ? '' : ` Call ${phone}.`} Msg frequency varies, rates may apply. Reply STOP to end.`,
  everything: 'messages',
  yourUtility: 'your utility',
  digestSubject: (account, count) => `${account}: ${count} ${count === 1 ? 'message' : 'messages'} about your usage`,
  digestOpening: 'What there is to tell since the last summary:',
  digestShort: (count) => `${count} usage messages:`,
  because: (category, utility) => `You get this because this address was confirmed for ${category} of ${utility}.`,
  unsubscribe: (category) => `Stop ${category} to this address`,
  questions: (utility, phone) => `Questions? Call ${utility}: ${phone}.`,
  unsubscribePage: {
    unknown: 'This link is not known here.',
    all: 'Stop all messages to this address',
    title: (utility) => `Messages of ${utility}`,
    question: (category, utility, address) => `${address} gets ${category} of ${utility}. Nothing changes until you press a button.`,
    done: (category, utility) => `Done: no more ${category} of ${utility} to this address. You can switch them on again where you manage your account.`,
  },
  linkNames: { usage: 'See your usage', preferences: 'Change what you are told', outage: 'Report an outage', pay: 'Pay your bill', website: 'Website' },
  chartAlt: (day, peak) => `Chart of your use by the hour on ${day}.${peak === null ? '' : ` ${peak}`}`,
  chartNote: (hour, peak) => `The most was used ${hour}: ${peak}.`,
}

function during(from: string | null, to: string | null): string {
  if (from === null) return to === null ? '' : ` until ${to}`
  return to === null ? ` from ${from}` : ` from ${from} to ${to}`
}
