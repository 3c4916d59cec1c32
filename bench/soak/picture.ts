/**
 * An hour's memory, answers and failures as an SVG: panels with one time axis, failovers as lines.
 */
import { init } from 'echarts'
import type { Memory, Sample } from './samples.ts'

const WIDTH = 960
const PANEL_HEIGHT = 130
const GAP = 46
const TOP = 84
const LEFT = 70
const RIGHT = 24
const BOTTOM = 40
const MIB = 2 ** 20
const TOTALS = ['answered per second', 'failed per second']

interface Panel {
  readonly title: string
  /** Of a process, or one of TOTALS. */
  readonly value: (sample: Sample, process: string) => number | null
  readonly isTotal?: boolean
}

const memory =
  (field: keyof Memory) =>
  (sample: Sample, process: string): number | null => {
    const bytes = sample.processes[process]?.[field]
    return bytes === undefined ? null : Math.round((bytes / MIB) * 10) / 10
  }

const PANELS: readonly Panel[] = [
  { title: 'resident memory of each process, MiB', value: memory('rssBytes') },
  { title: 'JavaScript heap in use, MiB', value: memory('heapBytes') },
  { title: 'buffers outside of the heap, MiB', value: memory('externalBytes') },
  {
    title: 'statements answered, and failed, per second',
    value: (sample, name) => (name === TOTALS[0] ? sample.answeredPerS : sample.failedPerS),
    isTotal: true,
  },
]

export function picture(
  title: string,
  samples: readonly Sample[],
  failoversS: readonly number[],
): string {
  const height = TOP + PANELS.length * (PANEL_HEIGHT + GAP) + BOTTOM - GAP
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height })
  const processes = Object.keys(samples[0]?.processes ?? {})
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    textStyle: { fontFamily: 'sans-serif' },
    title: [
      { text: title, left: 'center', top: 8, textStyle: { fontSize: 16 } },
      ...PANELS.map((panel, index) => ({
        text: panel.title,
        left: LEFT,
        top: topOf(index) - 22,
        textStyle: { fontSize: 12, fontWeight: 'normal' },
      })),
    ],
    legend: { top: 34, data: [...processes, ...TOTALS] },
    grid: PANELS.map((_, index) => ({
      top: topOf(index),
      left: LEFT,
      right: RIGHT,
      height: PANEL_HEIGHT,
    })),
    xAxis: PANELS.map((_, index) => timeAxis(index, samples)),
    yAxis: PANELS.map((_, index) => ({ type: 'value', gridIndex: index, min: 0, splitNumber: 3 })),
    series: PANELS.flatMap((panel, index) =>
      (panel.isTotal === true ? TOTALS : processes).map((name) => ({
        name,
        type: 'line',
        xAxisIndex: index,
        yAxisIndex: index,
        data: samples.map((sample) => [sample.atS / 60, panel.value(sample, name)]),
        showSymbol: false,
        lineStyle: { width: 1.2 },
        markLine: marks(failoversS),
      })),
    ),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

function topOf(index: number): number {
  return TOP + index * (PANEL_HEIGHT + GAP)
}

function timeAxis(index: number, samples: readonly Sample[]): object {
  const isLast = index === PANELS.length - 1
  return {
    type: 'value',
    gridIndex: index,
    min: 0,
    max: Math.ceil((samples.at(-1)?.atS ?? 60) / 60),
    axisLabel: { show: isLast },
    name: isLast ? 'minutes; dashed: a primary is killed' : '',
    nameLocation: 'middle',
    nameGap: 24,
  }
}

function marks(failoversS: readonly number[]): object {
  return {
    silent: true,
    symbol: 'none',
    label: { show: false },
    lineStyle: { color: '#b91c1c', type: 'dashed', width: 0.8 },
    data: failoversS.map((atS) => ({ xAxis: atS / 60 })),
  }
}
