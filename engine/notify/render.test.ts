import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { getZone } from '../time/zone.js'
import { dayNumber } from '../time/text.js'
import { toGsm } from './gsm.js'
import { alertContent, alertKinds, correctionContent, noticeTemplates, type AlertSnapshot, type MessageContent } from './content.js'
import { mailHtml } from './mail-html.js'
import { digestView, messageView, plainText, type RenderContext } from './render.js'
import { languages } from './words.js'

const zone = getZone('America/Chicago')
const day = dayNumber('2026-10-01')
const snapshot: AlertSnapshot = {
  account: 'Lake cabin', kind: 'day-usage', flow: 1, meter: null, limit: '60', value: '61.204',
  period: { startDay: day, endDay: day + 1 }, zone, crossedAtS: Date.parse('2026-10-01T23:45:00Z') / 1000, expected: 76, present: 75, estimated: 2,
}
const GSM = /^[A-Za-z0-9 \n@£$¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ!"#¤%&'()*+,\-./:;<=>?¡ÄÖÑÜ§¿äöñüà_]*$/

const context: RenderContext = {
  language: 'en', category: 'usage', unsubscribeUrl: 'https://coop.example/u/token',
  utility: { name: 'Lakeside Electric', phone: '555-0100', links: { usage: 'https://coop.example/usage' } },
}
const view = (content: MessageContent, language = 'en') => messageView(content, { ...context, language })

describe('a message', () => {
  it('names the account, the limit, the value, when it was passed and how complete the data are', () => {
    const v = view(alertContent(snapshot))
    expect(v.subject).toBe('Lake cabin: more than 60 kWh in a day')
    expect(plainText(v)).toBe(`Lake cabin used more than 60 kWh on October 1, 2026.

Used: 61.204 kWh
Your limit: 60 kWh in a day
Limit passed: Oct 1, 6:45 PM
Data: 75 of 76 readings due so far, 2 of them estimated

See your usage: https://coop.example/usage

You get this because this address was confirmed for usage alerts of Lakeside Electric. Questions? Call Lakeside Electric: 555-0100.

Stop usage alerts to this address: https://coop.example/u/token
`)
    expect(v.sms).toBe('Lakeside Electric: Lake cabin: 61.204 kWh used on Oct 1, limit 60. Passed Oct 1, 6:45 PM. 75/76 reads. Reply STOP to end.')
  })

  it('says what a correction took back', () => {
    const v = view(correctionContent({ ...snapshot, value: '9.6', kind: 'period-usage', period: { startDay: day, endDay: day + 31 } }))
    expect(v.subject).toBe('Correction for Lake cabin: not above 60 kWh in a billing period')
    expect(plainText(v)).toContain('in the billing period from October 1, 2026 to October 31, 2026')
    expect(v.sms).toBe('Lakeside Electric: Lake cabin: correction: 9.6 kWh used since Oct 1, not above your limit 60. Reply STOP to end.')
  })

  it('is written in the contact\'s language, and in English where there are no words for it', () => {
    const v = view(alertContent(snapshot), 'es-MX')
    expect(v.subject).toBe('Lake cabin: más de 60 kWh en un día')
    expect(v.paragraphs[0]).toBe('Lake cabin usó más de 60 kWh el 1 de octubre de 2026.')
    expect(v.sms).toBe('Lakeside Electric: Lake cabin: uso 61.204 kWh el 1 oct, limite 60. Pasado 1 oct, 6:45 PM. 75/76 lecturas. Responda STOP para terminar.')
    expect(mailHtml(v, null)).toContain('<html lang="es-US">')
    expect(view(alertContent(snapshot), 'vi').subject).toBe('Lake cabin: more than 60 kWh in a day')
  })

  it('of low usage says whether it was a day or a billing period', () => {
    const low = { ...snapshot, kind: 'low-usage', limit: '100', value: '80', crossedAtS: null } as const
    expect(view(alertContent(low)).paragraphs[0]).toBe('Lake cabin used less than 100 kWh on October 1, 2026.')
    const period = view(alertContent({ ...low, period: { startDay: day, endDay: day + 31 } }))
    expect(period.subject).toBe('Lake cabin: less than 100 kWh in a billing period')
    expect(period.paragraphs[0]).toBe('Lake cabin used less than 100 kWh in the billing period from October 1, 2026 to October 31, 2026.')
    expect(period.sms).toBe('Lakeside Electric: Lake cabin: only 80 kWh used since Oct 1, low limit 100 kWh. 75/76 reads. Reply STOP to end.')
    expect(view(correctionContent({ ...low, kind: 'no-usage', period: { startDay: day, endDay: day + 31 } }), 'es').subject)
      .toBe('Corrección para Lake cabin: hubo uso desde el 1 oct')
  })

  it('names the utility in mail and text, with its phone and its links', () => {
    for (const language of languages) {
      for (const content of [alertContent(snapshot), correctionContent(snapshot)]) {
        const v = view(content, language)
        for (const text of [plainText(v), mailHtml(v, null)]) for (const part of ['Lakeside Electric', '555-0100', 'https://coop.example/usage']) expect(text).toContain(part)
        expect(v.sms.startsWith('Lakeside Electric: ')).toBe(true)
      }
    }
  })

  it('writes money in the form of its currency, and hours by the clock', () => {
    expect(view(alertContent({ ...snapshot, kind: 'period-cost', unit: 'USD', limit: '150', value: '150.5' })).paragraphs[0])
      .toBe('Lake cabin cost more than $150.00 in the billing period from October 1, 2026 to October 1, 2026.')
    const startS = Date.parse('2026-10-01T22:00:00Z') / 1000
    expect(view(alertContent({ ...snapshot, kind: 'hour-usage', limit: '5', hour: { startS, endS: startS + 3600 } })).paragraphs[0])
      .toBe('Lake cabin used more than 5 kWh from 5:00 PM to 6:00 PM on October 1, 2026.')
  })

  it('of every kind and template has words in every language, and no word is left open', () => {
    for (const language of languages) {
      for (const kind of alertKinds) {
        const s = { ...snapshot, kind, usual: { value: '40', days: 8 }, range: { low: '55', high: '70' } }
        for (const content of [alertContent(s), correctionContent(s)]) {
          const v = view(content, language)
          for (const text of [v.subject, plainText(v), v.sms, v.line]) expect(text, `${kind} in ${language}`).not.toMatch(/undefined|null|NaN| {2}/)
        }
      }
      for (const template of noticeTemplates) {
        const v = view({ t: 'notice', account: 'Lake cabin', template, zone: zone.name, params: { text: 'Crew on the way.', startsAt: '2026-10-01T22:00:00Z' } }, language)
        expect(plainText(v)).toContain('Crew on the way.')
        expect(v.subject.length).toBeGreaterThan(5)
      }
    }
  })

  it('is one SMS of GSM-7 characters that ends with how to stop, whatever the account is called', () => {
    const kinds = fc.constantFrom(...alertKinds)
    const names = fc.string({ unit: 'grapheme', maxLength: 300 })
    fc.assert(fc.property(names, fc.option(names), fc.boolean(), kinds, fc.constantFrom(...languages), (account, name, isAlert, kind, language) => {
      const utility = { ...context.utility, name }
      const content = (isAlert ? alertContent : correctionContent)({ ...snapshot, account, kind, limit: '999999.999', value: '123456789.123456789' })
      const { sms } = messageView(content, { ...context, utility, language })
      // Who writes comes first: at least so much of it that it is known.
      expect(sms.startsWith(toGsm(name ?? '').slice(0, 10).trimEnd())).toBe(true)
      expect(sms.length).toBeLessThanOrEqual(160)
      expect(sms).toMatch(GSM)
      expect(sms).toMatch(/ (Reply STOP to end|Responda STOP para terminar)\.$/)
      const digest = digestView([content, content, content], { ...context, utility, language }).sms
      expect(digest.startsWith(toGsm(name ?? '').slice(0, 10).trimEnd())).toBe(true)
      expect(digest.length).toBeLessThanOrEqual(160)
      expect(digest).toMatch(/STOP [a-z ]+\.$/)
    }))
    fc.assert(fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (name) => {
      for (const content of [{ t: 'code', code: '012345', minutes: 10 }, { t: 'reply', word: 'help', category: 'all' }] as const) {
        const { sms } = messageView(content, { ...context, utility: { name, phone: null, links: {} } })
        expect(sms.length).toBeLessThanOrEqual(160)
        expect(sms).toMatch(GSM)
      }
    }))
  })

  it('cannot bring markup of its own into the mail', () => {
    fc.assert(fc.property(fc.string({ maxLength: 100 }), (text) => {
      const html = mailHtml(view(alertContent({ ...snapshot, account: `<script>${text}` })), { alt: `"><img src=x ${text}`, note: `<b>${text}` })
      expect(html).not.toContain('<script')
      expect(html).not.toContain('<img src=x')
      expect(html).not.toContain('<b>')
    }))
  })

  it('keeps letters that GSM has, and plain ones of those it lacks', () => {
    expect(toGsm('Chalé Ñandú “šťastný” 山')).toBe('Chalé Ñandu ?stastny? ?')
  })
})
