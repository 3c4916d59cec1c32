/** Programs and drivers against a single PostgreSQL 15 by host=, as PgBouncer is used, in session mode too. */
import { describe } from 'vitest'
import { postgres15 } from '../support/debian.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { programsSuite } from './programs-suite.ts'

const shared = useCluster(() => ({ replicas: 0, binaries: postgres15() }))

describe.each(['transaction', 'session'])('a single PostgreSQL 15, pool_mode = %s', (mode) => {
  const front = useSteer(shared, () => ({
    databases: `* = host=127.0.0.1 port=${shared.cluster.primary.port}`,
    pgbouncer: { pool_mode: mode, default_pool_size: 8 },
    cluster: null,
  }))
  programsSuite(front)
})
