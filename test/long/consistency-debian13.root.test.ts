/** What reads see across a failover, on Debian 13's Patroni 4.0, etcd 3.5 and PostgreSQL 17. */

import { consistencyScenarios } from '../failover/consistency-scenarios.ts'
import { debian13 } from '../support/patroni.ts'

consistencyScenarios(debian13)
