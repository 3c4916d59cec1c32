/**
 * Programs and drivers against PostgreSQL 18: one primary and two replicas. The pool is as large as
 * pgbench's number of clients: its PQprepare blocks the others of its thread, inside their transactions.
 */
import { describe } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { programsSuite } from './programs-suite.ts'

const shared = useCluster({ replicas: 2 })

describe('PostgreSQL 18 with two replicas', () => {
  programsSuite(useSteer(shared, { pgbouncer: { default_pool_size: 8 } }))
})
