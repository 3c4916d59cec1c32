/** The watcher against Debian 13's Patroni 4.0, etcd 3.5 and PostgreSQL 17, in a chroot. */
import { debian13 } from '../support/patroni.ts'
import { watcherScenarios } from '../failover/watcher-scenarios.ts'

watcherScenarios(debian13, 'safely')
