import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Handlebars from 'handlebars'
import { packageRoot } from '../package-root.js'
import type { MessageView } from './render.js'
import type { MailChart } from './transport.js'

let layout: HandlebarsTemplateDelegate | undefined

/** The mail as HTML: what is not ours in it is escaped by the template. The chart is attached under the content id `chart`. */
export function mailHtml(view: MessageView, chart: Omit<MailChart, 'png'> | null, chartSource = 'cid:chart'): string {
  layout ??= Handlebars.create().compile(readFileSync(join(packageRoot(), 'engine', 'notify', 'templates', 'mail.hbs'), 'utf8'), { strict: true })
  const [heading, ...paragraphs] = view.paragraphs
  return layout({ ...view, heading, paragraphs, chart: chart === null ? null : { ...chart, source: chartSource } })
}
