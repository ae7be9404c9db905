import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dayNumber } from '../time/text.js'
import { getZone } from '../time/zone.js'
import { chartPng } from './chart-image.js'
import { alertContent, type MessageContent } from './content.js'
import { mailHtml } from './mail-html.js'
import { digestView, messageView, type MessageView, type RenderContext } from './render.js'

const chromium = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path))
const day = dayNumber('2026-07-01')
const zone = getZone('America/Chicago')
const content: MessageContent = alertContent({
  account: 'Lake cabin', kind: 'day-usage', flow: 1, meter: null, limit: '60', value: '61.204', period: { startDay: day, endDay: day + 1 }, zone,
  crossedAtS: Date.parse('2026-07-01T22:45:00Z') / 1000, expected: 71, present: 71, estimated: 2,
})
const context: RenderContext = {
  language: 'en', category: 'usage', unsubscribeUrl: 'https://coop.example/u/token',
  utility: { name: 'Lakeside Electric', phone: '555-0100', links: { usage: 'https://coop.example/usage', preferences: 'https://coop.example/alerts' } },
}
const values = Array.from({ length: 24 }, (_, h) => h < 18 ? Number((1.2 + 3.4 * Math.exp(-((h - 17) ** 2) / 18) + (h % 3) * 0.2).toFixed(3)) : null)
const labels = values.map((_, h) => `${h % 12 === 0 ? 12 : h % 12} ${h < 12 ? 'AM' : 'PM'}`)
const png = chartPng({ labels, values, mark: 17 })
const source = `data:image/png;base64,${png.toString('base64')}`
const chart = { alt: 'Chart of your use by the hour on July 1, 2026. The most was used from 5:00 PM to 6:00 PM: 5 kWh.', note: 'The most was used from 5:00 PM to 6:00 PM: 5 kWh.' }

/** Mails of every shape. */
const mails: [string, MessageView, boolean][] = [
  ['alert', messageView(content, context), true],
  ['alert-es', messageView(content, { ...context, language: 'es' }), true],
  ['correction', messageView({ ...content, t: 'correction' } as MessageContent, context), false],
  ['digest', digestView([content, content, content], context), false],
  ['code', messageView({ t: 'code', code: '123456', minutes: 10 }, { ...context, unsubscribeUrl: null }), false],
]

describe('the chart of a mail', () => {
  it('is a PNG of twice its shown size, small enough to send', () => {
    expect(png.subarray(1, 4).toString()).toBe('PNG')
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([1104, 480])
    expect(png.length).toBeLessThan(60_000)
    // Its letters come from the font that is shipped: without it they would be missing, and the file much smaller.
    expect(png.length).toBeGreaterThan(8_000)
  })
})

describe.skipIf(chromium === undefined)(chromium === undefined ? 'mails in a browser: NOT RUN, there is no Chromium here' : 'mails in a browser', () => {
  let browser: Browser
  beforeAll(async () => {
    const { chromium: launcher } = await import('playwright-core')
    browser = await launcher.launch({ executablePath: chromium, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
  }, 60_000)
  afterAll(async () => browser.close())

  it.each(mails)('%s: is accessible and fits, light and dark, narrow and wide', async (name, view, hasChart) => {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [320, 800]) {
        const page = await browser.newPage({ colorScheme, viewport: { width, height: 900 } })
        try {
          await page.setContent(mailHtml(view, hasChart ? chart : null, source), { waitUntil: 'load' })
          await page.addScriptTag({ path: createRequire(import.meta.url).resolve('axe-core/axe.min.js') })
          const found = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>('axe.run(document, { resultTypes: ["violations"] })')
          expect(found.violations.map((v) => [v.id, v.nodes[0].html])).toEqual([])
          // Nothing sticks out: no sideways scrolling on a small telephone.
          expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width)
          if (process.env.MAIL_SCREENSHOTS !== undefined) await page.screenshot({ path: `${process.env.MAIL_SCREENSHOTS}/${name}-${colorScheme}-${width}.png`, fullPage: true })
        } finally {
          await page.close()
        }
      }
    }
  }, 60_000)
})
