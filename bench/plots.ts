/**
 * Ratios of all shapes as horizontal bars in SVG, with the lowest and the highest of the rounds in
 * figures. Knows nothing of what is measured.
 */
import { init } from 'echarts'
import type { Ratio } from './report.ts'

const WIDTH = 960
const ROW = 26
const TOP = 56
const BOTTOM = 44
const LEFT = 230
const RIGHT = 130
const BETTER = '#1666b4'
const WORSE = '#d9730d'

export interface Bar {
  readonly name: string
  readonly ratio: Ratio
  readonly isBetter: boolean
}

export function bars(title: string, all: readonly Bar[]): string {
  const height = TOP + all.length * ROW + BOTTOM
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height })
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    textStyle: { fontFamily: 'sans-serif' },
    title: { text: title, left: 'center', top: 10, textStyle: { fontSize: 15 } },
    grid: { top: TOP, bottom: BOTTOM, left: LEFT, right: RIGHT },
    xAxis: { type: 'value', min: 0, name: 'ratio', nameLocation: 'middle', nameGap: 26 },
    yAxis: { type: 'category', inverse: true, data: all.map(({ name }) => name) },
    series: [
      {
        type: 'bar',
        barWidth: ROW * 0.6,
        data: all.map(({ ratio, isBetter }) => ({
          value: ratio.median,
          itemStyle: { color: isBetter ? BETTER : WORSE },
        })),
        label: {
          show: true,
          position: 'right',
          formatter: ({ dataIndex }: { dataIndex: number }) => labelOf(all[dataIndex]),
        },
        markLine: {
          silent: true,
          symbol: 'none',
          label: { show: false },
          lineStyle: { color: '#111827', type: 'dashed' },
          data: [{ xAxis: 1 }],
        },
      },
    ],
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

function labelOf(bar: Bar | undefined): string {
  if (bar === undefined) return ''
  const { median, min, max } = bar.ratio
  return `${median.toFixed(2)}  (${min.toFixed(2)}-${max.toFixed(2)})`
}
