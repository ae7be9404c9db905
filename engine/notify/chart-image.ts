import { readlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { constants, setPriority } from 'node:os'
import { Resvg } from '@resvg/resvg-js'
import * as echarts from 'echarts'

/** A day by the hour, as a chart shows it. Plain data: it crosses to a worker thread. */
export interface DayChart {
  /** Clock texts of the hours, such as `5 PM`. */
  readonly labels: readonly string[]
  /** kWh; null: not read. */
  readonly values: readonly (number | null)[]
  /** Index of the hour to stand out; -1: none. */
  readonly mark: number
}

const WIDTH = 552
const HEIGHT = 240
/** Sharp on screens of two dots a pixel, at about 20 KB. */
const ZOOM = 2

let font: string | undefined

/** The chart as SVG, drawn without a browser. Its background is opaque: it stands in mails on light and dark alike. */
export function chartSvg(chart: DayChart): string {
  const drawn = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height: HEIGHT })
  try {
    const axis = { color: '#4a5866', fontFamily: 'DejaVu Sans', fontSize: 14 }
    drawn.setOption({
      animation: false,
      backgroundColor: '#ffffff',
      grid: { left: 48, right: 14, top: 32, bottom: 32 },
      xAxis: {
        type: 'category', data: [...chart.labels], axisTick: { show: false }, axisLine: { lineStyle: { color: '#8795a1' } },
        axisLabel: { ...axis, interval: 5 } },
      yAxis: { type: 'value', name: 'kWh', nameTextStyle: { ...axis, align: 'right' }, axisLabel: axis, splitLine: { lineStyle: { color: '#e3e8ec' } } },
      series: [{
        type: 'bar', barCategoryGap: '25%',
        data: chart.values.map((value, i) => ({ value: value ?? '-', itemStyle: { color: i === chart.mark ? '#b3480f' : '#2f73b5', borderRadius: [2, 2, 0, 0] } })),
      }],
    })
    return drawn.renderToSVGString()
  } finally {
    drawn.dispose()
  }
}

/** The chart as PNG, in the font that comes with the program: no machine's fonts matter. */
export function chartPng(chart: DayChart): Buffer {
  font ??= createRequire(import.meta.url).resolve('dejavu-fonts-ttf/ttf/DejaVuSans.ttf')
  return new Resvg(chartSvg(chart), {
    font: { loadSystemFonts: false, fontFiles: [font], defaultFontFamily: 'DejaVu Sans' }, fitTo: { mode: 'zoom', value: ZOOM },
  }).render().asPng()
}

let isYielding = false

/** Entry of the worker thread. */
export default function draw(chart: DayChart): Buffer {
  if (!isYielding) yieldProcessor()
  isYielding = true
  return chartPng(chart)
}

/** Lets this thread run in what time others leave: a picture matters less than the reads that settle meanwhile. */
function yieldProcessor(): void {
  try {
    // Linux alone has priorities of threads, and tells their ids here.
    setPriority(Number(readlinkSync('/proc/thread-self').split('/').at(-1)), constants.priority.PRIORITY_BELOW_NORMAL)
  } catch {
    // Elsewhere charts are drawn like everything else.
  }
}
