import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { getZone } from '../time/zone.js'
import { dayNumber } from '../time/text.js'
import { toGsm } from './gsm.js'
import { alertTexts, codeTexts, correctionTexts, type AlertSnapshot } from './text.js'

const zone = getZone('America/Chicago')
const day = dayNumber('2026-10-01')
const snapshot: AlertSnapshot = {
  account: 'Lake cabin', utilityName: 'Lakeside Electric', kind: 'day-usage', flow: 1, meter: null, limit: '60', value: '61.204',
  period: { startDay: day, endDay: day + 1 }, zone, crossedAtS: Date.parse('2026-10-01T23:45:00Z') / 1000, expected: 76, present: 75, estimated: 2,
}
const GSM = /^[A-Za-z0-9 \n@£$¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ!"#¤%&'()*+,\-./:;<=>?¡ÄÖÑÜ§¿äöñüà_]*$/

describe('a message', () => {
  it('names the account, the limit, the value, when it was passed and how complete the data are', () => {
    const { email, sms } = alertTexts(snapshot)
    expect(email.subject).toBe('Lake cabin: more than 60 kWh in a day')
    expect(email.body).toBe(`Lake cabin used more than 60 kWh on October 1, 2026.

Used: 61.204 kWh
Your limit: 60 kWh in a day
Limit passed: Oct 1, 6:45 PM
Data: 75 of 76 readings due so far, 2 of them estimated

You get this because this address was confirmed for usage alerts of Lakeside Electric. To stop, remove the address or the alert where you manage your account.
`)
    expect(sms.body).toBe('Lake cabin: 61.204 kWh used on Oct 1, limit 60. Passed Oct 1, 6:45 PM. 75/76 reads. Reply STOP to end.')
  })

  it('says what a correction took back', () => {
    const { email, sms } = correctionTexts({ ...snapshot, value: '9.6', kind: 'period-usage', period: { startDay: day, endDay: day + 31 } })
    expect(email.subject).toBe('Correction for Lake cabin: not above 60 kWh in a billing period')
    expect(email.body).toContain('in the billing period from October 1, 2026 to October 31, 2026')
    expect(sms.body).toBe('Lake cabin: correction: 9.6 kWh used since Oct 1, not above your limit 60. Reply STOP to end.')
  })

  it('is one SMS of GSM-7 characters that ends with how to stop, whatever the account is called', () => {
    fc.assert(fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), fc.boolean(), (account, isAlert) => {
      const sms = (isAlert ? alertTexts : correctionTexts)({ ...snapshot, account, limit: '999999.999', value: '123456789.123456789' }).sms.body
      expect(sms.length).toBeLessThanOrEqual(160)
      expect(sms).toMatch(GSM)
      expect(sms.endsWith(' Reply STOP to end.')).toBe(true)
    }))
    fc.assert(fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (utility) => {
      const sms = codeTexts('012345', 10, utility).sms.body
      expect(sms.length).toBeLessThanOrEqual(160)
      expect(sms).toMatch(GSM)
      expect(sms).toContain('012345')
    }))
  })

  it('keeps letters that GSM has, and plain ones of those it lacks', () => {
    expect(toGsm('Chalé Ñandú “šťastný” 山')).toBe('Chalé Ñandu ?stastny? ?')
  })
})
