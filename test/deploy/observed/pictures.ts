/**
 * The dashboards as a Prometheus answers them: every panel's queries are asked for the time given, and what comes
 * back is drawn where the panel lies. Not Grafana's looks, but its data: an empty panel is an empty query.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { init } from 'echarts'
import { expanded } from '../promql.ts'

const DASHBOARDS = resolve(import.meta.dirname, '../../../deploy/grafana/dashboards')
const COLUMN = 60
const ROW = 34
const STEP_S = 5
const COLOURS: Readonly<Record<string, string>> = {
  green: '#56a64b',
  orange: '#e5882f',
  red: '#d44a3a',
  blue: '#3274d9',
  text: '#c7d0d9',
}

export interface Span {
  readonly startS: number
  readonly endS: number
}

interface PanelJson {
  readonly type: string
  readonly title: string
  readonly gridPos: {
    readonly x: number
    readonly y: number
    readonly w: number
    readonly h: number
  }
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[]
  readonly fieldConfig?: {
    readonly defaults: {
      readonly unit: string
      readonly custom: { readonly stacking?: { readonly mode: string } }
      readonly mappings: readonly {
        readonly options: Readonly<
          Record<string, { readonly text: string; readonly color: string }>
        >
      }[]
    }
  }
  readonly options?: { readonly textMode?: string }
}

interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly points: readonly (readonly [atS: number, value: number])[]
}

/** Writes one SVG per dashboard and prints the panels that have nothing to show. */
export async function plot(prometheusUrl: string, span: Span, folder: string): Promise<void> {
  for (const file of readdirSync(DASHBOARDS)) {
    const { title, panels } = JSON.parse(readFileSync(join(DASHBOARDS, file), 'utf8')) as {
      title: string
      panels: PanelJson[]
    }
    const parts: string[] = []
    for (const panel of panels) {
      const series = await answers(prometheusUrl, panel, span)
      if (panel.type !== 'row' && series.length === 0)
        console.log(`${title}: ${panel.title}: empty`)
      parts.push(placed(panel, series, span))
    }
    const height = 60 + ROW * Math.max(...panels.map(({ gridPos: { y, h } }) => y + h))
    const head = `<text x="12" y="34" font-size="22" font-weight="600">${escaped(title)}</text>`
    const open = `<svg xmlns="http://www.w3.org/2000/svg" width="${24 * COLUMN}" height="${height}" font-family="sans-serif" fill="#1f2933">`
    const back = `<rect width="100%" height="100%" fill="#f4f5f8"/>`
    const svg = `${open}${back}${head}${parts.join('')}</svg>`
    writeFileSync(join(folder, file.replace(/json$/, 'svg')), svg)
  }
}

async function answers(url: string, panel: PanelJson, span: Span): Promise<Series[]> {
  const all: Series[] = []
  for (const { expr, legendFormat } of panel.targets ?? []) {
    const query = expanded(expr, `${Math.ceil(span.endS - span.startS)}s`)
    const isOfNow = panel.type === 'stat' || panel.type === 'table'
    const body = new URLSearchParams({ query, time: `${span.endS}` })
    if (!isOfNow)
      for (const [name, value] of Object.entries({
        start: span.startS,
        end: span.endS,
        step: STEP_S,
      }))
        body.set(name, `${value}`)
    const path = isOfNow ? 'query' : 'query_range'
    const answer = await fetch(`${url}/api/v1/${path}`, { method: 'POST', body })
    const { data, error } = (await answer.json()) as {
      data?: {
        result: {
          metric: Record<string, string>
          value?: [number, string]
          values?: [number, string][]
        }[]
      }
      error?: string
    }
    if (data === undefined) throw new Error(`${panel.title}: ${error ?? answer.status}: ${query}`)
    for (const { metric, value, values = value === undefined ? [] : [value] } of data.result)
      all.push({
        name: legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? ''),
        labels: metric,
        points: values.map(([at, text]) => [at, Number(text)]),
      })
  }
  return all
}

function placed(panel: PanelJson, series: readonly Series[], span: Span): string {
  const { x, y, w, h } = panel.gridPos
  const [left, top, width, height] = [x * COLUMN, 50 + y * ROW, w * COLUMN, h * ROW]
  if (panel.type === 'row')
    return `<text x="12" y="${top + 24}" font-size="15" font-weight="600">${escaped(panel.title)}</text>`
  const box = `<rect x="4" y="4" width="${width - 8}" height="${height - 8}" rx="4" fill="#fff" stroke="#d8dde3"/>`
  const head = `<text x="14" y="24" font-size="13" font-weight="600">${escaped(panel.title)}</text>`
  const body = drawn(panel, series, { width, height, span })
  return `<svg x="${left}" y="${top}" width="${width}" height="${height}">${box}${head}${body}</svg>`
}

interface Room {
  readonly width: number
  readonly height: number
  readonly span: Span
}

function drawn(panel: PanelJson, series: readonly Series[], room: Room): string {
  if (series.length === 0) return '<text x="14" y="60" font-size="13" fill="#9aa5b1">no data</text>'
  if (panel.type === 'stat') return figures(panel, series)
  if (panel.type === 'table') return rows(panel, series, room)
  if (panel.type === 'state-timeline') return bars(panel, series, room)
  return curves(panel, series, room)
}

function figures(panel: PanelJson, series: readonly Series[]): string {
  const live = series.filter(({ points }) => points.length > 0)
  return live
    .slice(-3)
    .map((one, index) => {
      const value = one.points.at(-1)?.[1] ?? Number.NaN
      const isName = panel.options?.textMode === 'name'
      const text = isName ? one.name : inUnit(value, unitOf(panel))
      const y = 66 + index * 26
      return `<text x="14" y="${y}" font-size="26" fill="#3274d9">${escaped(text)}</text>`
    })
    .join('')
}

function rows(panel: PanelJson, series: readonly Series[], { height }: Room): string {
  const lines = series.slice(0, Math.floor((height - 46) / 18)).map(({ labels, points }, index) => {
    const named = Object.entries(labels).filter(([name]) => name !== '__name__' && name !== 'job')
    const words = named.map(([name, value]) => `${name}=${value}`).join('  ')
    const text = `${inUnit(points.at(-1)?.[1] ?? Number.NaN, unitOf(panel))}   ${words}`
    return `<text x="14" y="${50 + index * 18}" font-size="11">${escaped(text)}</text>`
  })
  return lines.join('')
}

function bars(panel: PanelJson, series: readonly Series[], { width, height, span }: Room): string {
  const words = Object.assign(
    {},
    ...(panel.fieldConfig?.defaults.mappings ?? []).map((one) => one.options),
  ) as Record<string, { color: string }>
  const [left, top] = [150, 38]
  const scale = (width - left - 20) / (span.endS - span.startS)
  const tall = Math.min(28, (height - top - 14) / series.length)
  const parts = series.flatMap(({ name, points }, index) => [
    `<text x="14" y="${top + index * tall + tall * 0.65}" font-size="11">${escaped(name)}</text>`,
    ...points.map(([at, value]) => {
      const fill = COLOURS[words[`${value}`]?.color ?? 'text'] ?? '#888'
      const x = left + (at - span.startS) * scale
      return `<rect x="${x.toFixed(1)}" y="${top + index * tall}" width="${(STEP_S * scale + 0.5).toFixed(1)}" height="${tall - 4}" fill="${fill}"/>`
    }),
  ])
  return parts.join('')
}

function curves(panel: PanelJson, series: readonly Series[], { width, height }: Room): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height })
  const unit = unitOf(panel)
  const isStacked = panel.fieldConfig?.defaults.custom.stacking?.mode === 'normal'
  chart.setOption({
    animation: false,
    backgroundColor: 'transparent',
    legend: {
      bottom: 8,
      left: 12,
      type: 'plain',
      itemWidth: 12,
      itemHeight: 8,
      textStyle: { fontSize: 10 },
      data: series.slice(0, 8).map(({ name }) => name),
    },
    grid: { top: 36, left: 66, right: 18, bottom: 62 },
    xAxis: { type: 'time', axisLabel: { fontSize: 10, hideOverlap: true } },
    yAxis: {
      type: 'value',
      splitNumber: 3,
      axisLabel: { fontSize: 10, formatter: (value: number) => inUnit(value, unit) },
    },
    series: series.map(({ name, points }) => ({
      name,
      type: 'line',
      showSymbol: false,
      lineStyle: { width: 1.4 },
      ...(isStacked ? { stack: 'all', areaStyle: { opacity: 0.4 } } : {}),
      data: points.map(([at, value]) => [at * 1000, value]),
    })),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

function unitOf(panel: PanelJson): string {
  return panel.fieldConfig?.defaults.unit ?? 'short'
}

/** A number as Grafana would put it, roughly. */
function inUnit(value: number, unit: string): string {
  if (Number.isNaN(value)) return '-'
  if (unit === 'percentunit') return `${(value * 100).toFixed(1)} %`
  if (unit === 's' && Math.abs(value) >= 86_400) return `${(value / 86_400).toFixed(1)} d`
  if (unit === 's' && Math.abs(value) >= 60) return `${(value / 60).toFixed(1)} min`
  if (unit === 's' && Math.abs(value) < 1) return `${Number((value * 1000).toPrecision(3))} ms`
  if (unit === 'dateTimeFromNow') return `${((Date.now() - value) / 60_000).toFixed(0)} min ago`
  const suffix = { s: ' s', bytes: 'B', Bps: 'B/s', ops: '/s' }[unit] ?? ''
  const step = ['', 'k', 'M', 'G', 'T'].findIndex(
    (_, index) => Math.abs(value) < 1000 ** (index + 1),
  )
  const power = Math.max(step, 0)
  return `${Number((value / 1000 ** power).toPrecision(3))} ${['', 'k', 'M', 'G', 'T'][power]}${suffix}`.trim()
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
