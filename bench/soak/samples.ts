/**
 * The memory of pgsteer's processes over time, as its own metrics say it, and whether it grows.
 */

/** Bytes of one process at one time. */
export interface Memory {
  readonly rssBytes: number
  readonly heapBytes: number
  readonly externalBytes: number
}

export interface Sample {
  readonly atS: number
  readonly processes: Readonly<Record<string, Memory>>
  readonly answeredPerS: number
  readonly failedPerS: number
}

export interface Growth {
  readonly process: string
  readonly what: keyof Memory
  /** Bytes that the process never went below, in the second quarter of the time and in the last. */
  readonly earlyBytes: number
  readonly lateBytes: number
}

const FIELDS = {
  pgsteer_process_resident_memory_bytes: 'rssBytes',
  pgsteer_process_heap_used_bytes: 'heapBytes',
  pgsteer_process_external_memory_bytes: 'externalBytes',
} as const satisfies Record<string, keyof Memory>

export async function readMemory(url: string): Promise<Record<string, Memory>> {
  const response = await fetch(url, { signal: AbortSignal.timeout(10_000) })
  const found: Record<string, Memory> = {}
  for (const line of (await response.text()).split('\n')) {
    const [, metric = '', process = '', value] =
      /^(\w+)\{process="([^"]+)"\} (\S+)$/.exec(line) ?? []
    const field = Object.entries(FIELDS).find(([name]) => name === metric)?.[1]
    if (field === undefined) continue
    const before = found[process] ?? { rssBytes: 0, heapBytes: 0, externalBytes: 0 }
    found[process] = { ...before, [field]: Number(value) }
  }
  return found
}

/**
 * A heap is a saw: it grows until it is collected. What tells is the level that it falls back to,
 * and that of a quarter, when all is warm, is compared with that of the last one.
 */
export function growthOf(samples: readonly Sample[]): Growth[] {
  const quarter = Math.floor(samples.length / 4)
  const early = samples.slice(quarter, 2 * quarter)
  const late = samples.slice(3 * quarter)
  return Object.keys(samples[0]?.processes ?? {}).flatMap((process) =>
    Object.values(FIELDS).map((what) => {
      const least = (some: readonly Sample[]): number =>
        Math.min(...some.map((sample) => sample.processes[process]?.[what] ?? Infinity))
      return { process, what, earlyBytes: least(early), lateBytes: least(late) }
    }),
  )
}
