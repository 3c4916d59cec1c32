/**
 * Results as they are kept in bench/results: each run with every sample in a file of its own, or the
 * one file that is in the repository, in which a run replaces the shapes that it measured.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { IdleResult } from './idle.ts'
import type { ShapeResult } from './rounds.ts'
import { type IdleShape, SHAPES } from './shapes.ts'

export interface IdleRecord {
  readonly shape: IdleShape
  readonly at: string
  readonly contenders: readonly IdleResult[]
}

export type Result = ShapeResult | IdleRecord

export interface Summary {
  readonly at: string
  readonly command: string
  readonly machine: Readonly<Record<string, string | number>>
  readonly results: readonly Result[]
}

export const RESULTS = join(import.meta.dirname, 'results')
const SUMMARY = join(RESULTS, 'summary.json')

export function isLoad(result: Result): result is ShapeResult {
  return result.shape.kind === 'load'
}

/** Null before the first one. */
export function readSummary(): Summary | null {
  if (!existsSync(SUMMARY)) return null
  // Written by this file.
  const found = JSON.parse(readFileSync(SUMMARY, 'utf8')) as Summary
  return 'results' in found ? found : null
}

/** Returns the name of the file. */
export function keep(run: Summary, isSummary: boolean): string {
  mkdirSync(RESULTS, { recursive: true })
  const file = isSummary ? SUMMARY : join(RESULTS, `${run.at.replaceAll(':', '-')}.json`)
  const whole = isSummary ? merged(run, readSummary()) : run
  writeFileSync(file, `${JSON.stringify(whole, rounded, 1)}\n`)
  return file
}

function merged(run: Summary, before: Summary | null): Summary {
  const all = [...run.results, ...(before?.results ?? [])]
  const results = SHAPES.flatMap(({ name }) => all.find(({ shape }) => shape.name === name) ?? [])
  return { ...run, results }
}

function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Math.round(value * 1000) / 1000 : value
}
