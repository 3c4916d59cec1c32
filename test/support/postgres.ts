/**
 * Real PostgreSQL for tests: one embedded cluster per file, started before its tests and removed
 * after them. Tests that break the cluster (kill, promote) start their own in the test.
 */
import { afterAll, beforeAll } from 'vitest'
import { type ClusterOptions, EmbeddedCluster } from '../../src/demo/cluster.ts'

export interface SharedCluster {
  /** Only inside tests and hooks that run after this file's beforeAll. */
  readonly cluster: EmbeddedCluster
}

/** Call at the top of a test file (or a describe). Roles and databases are those of src/demo/template.ts. */
export function useCluster(options: ClusterOptions | (() => ClusterOptions)): SharedCluster {
  let started: EmbeddedCluster | undefined
  beforeAll(async () => {
    started = await EmbeddedCluster.start(typeof options === 'function' ? options() : options)
  })
  afterAll(async () => {
    await started?.stop()
  })
  return {
    get cluster() {
      if (started === undefined) throw new Error('the cluster is started in beforeAll')
      return started
    },
  }
}
