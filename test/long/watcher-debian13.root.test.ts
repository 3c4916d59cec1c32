/** The watcher against Debian 13's Patroni 4.0, etcd 3.5 and PostgreSQL 17, in a chroot. */

import { watcherScenarios } from '../failover/watcher-scenarios.ts'
import { debian13 } from '../support/patroni.ts'

watcherScenarios(debian13, 'safely')
