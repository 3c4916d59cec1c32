/** Programs and drivers against Debian's PostgreSQL 15: one primary and one replica. */
import { describe } from 'vitest'
import { postgres15 } from '../support/debian.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { programsSuite } from './programs-suite.ts'

const shared = useCluster(() => ({ replicas: 1, binaries: postgres15() }))

describe('PostgreSQL 15 with a replica', () => {
  programsSuite(useSteer(shared))
})
