/** The watcher against Debian 12's Patroni 3.0, etcd 3.4 and PostgreSQL 15. */
import { debian12 } from '../support/patroni.ts'
import { watcherScenarios } from './watcher-scenarios.ts'

watcherScenarios(debian12, 'as a thief')
