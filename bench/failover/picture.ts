/**
 * The timelines of one fault as an SVG: contenders over each other, four panels with one time axis.
 */
import { init } from 'echarts'
import type { Step, Timeline } from './timeline.ts'

const WIDTH = 960
const PANEL_HEIGHT = 120
const GAP = 46
const TOP = 84
const LEFT = 70
const RIGHT = 24
const BOTTOM = 40
const COLOURS = ['#1666b4', '#d9730d', '#6b7280']

interface Panel {
  readonly title: string
  readonly value: (step: Step) => number | null
  readonly isLogarithmic?: boolean
  readonly isFilled?: boolean
}

const PANELS: readonly Panel[] = [
  { title: 'statements answered per second', value: (step) => step.answersPerS },
  {
    title: 'longest wait of what was answered, ms',
    value: (step) => step.longestMs,
    isLogarithmic: true,
  },
  { title: 'clients that wait', value: (step) => step.waiting },
  { title: 'statements and log-ins that failed', value: (step) => step.failed, isFilled: true },
]

export function picture(title: string, timelines: readonly Timeline[]): string {
  const height = TOP + PANELS.length * (PANEL_HEIGHT + GAP) + BOTTOM - GAP
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height })
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    textStyle: { fontFamily: 'sans-serif' },
    color: COLOURS,
    title: [
      { text: title, left: 'center', top: 8, textStyle: { fontSize: 16 } },
      ...PANELS.map((panel, index) => ({
        text: panel.title,
        left: LEFT,
        top: topOf(index) - 22,
        textStyle: { fontSize: 12, fontWeight: 'normal' },
      })),
    ],
    legend: { top: 34, data: timelines.map(({ contender }) => contender) },
    grid: PANELS.map((_, index) => ({
      top: topOf(index),
      left: LEFT,
      right: RIGHT,
      height: PANEL_HEIGHT,
    })),
    xAxis: PANELS.map((_, index) => timeAxis(index, timelines)),
    yAxis: PANELS.map((panel, index) => ({
      type: panel.isLogarithmic === true ? 'log' : 'value',
      gridIndex: index,
      min: panel.isLogarithmic === true ? 1 : 0,
      splitNumber: 3,
    })),
    series: PANELS.flatMap((panel, index) => timelines.map((one) => seriesOf(panel, index, one))),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

function topOf(index: number): number {
  return TOP + index * (PANEL_HEIGHT + GAP)
}

function timeAxis(index: number, timelines: readonly Timeline[]): object {
  const isLast = index === PANELS.length - 1
  const times = timelines.flatMap(({ steps }) => steps.map(({ atS }) => atS))
  return {
    type: 'value',
    gridIndex: index,
    min: Math.floor(Math.min(...times)),
    max: Math.ceil(Math.max(...times)),
    axisLabel: { show: isLast },
    name: isLast ? 'seconds after the fault' : '',
    nameLocation: 'middle',
    nameGap: 24,
  }
}

function seriesOf(panel: Panel, index: number, timeline: Timeline): object {
  const data = timeline.steps.map((step) => [step.atS, panel.value(step)])
  return {
    name: timeline.contender,
    type: 'line',
    xAxisIndex: index,
    yAxisIndex: index,
    data,
    showSymbol: false,
    lineStyle: { width: 1.5 },
    ...(panel.isFilled === true ? { areaStyle: { opacity: 0.25 } } : {}),
    markLine: {
      silent: true,
      symbol: 'none',
      label: { show: false },
      lineStyle: { color: '#b91c1c', type: 'dashed' },
      data: [{ xAxis: 0 }],
    },
  }
}
