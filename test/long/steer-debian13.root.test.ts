/** pgsteer in front of Debian 13's Patroni 4.0, etcd 3.5 and PostgreSQL 17, in a chroot. */

import { steerScenarios } from '../failover/steer-scenarios.ts'
import { debian13 } from '../support/patroni.ts'

steerScenarios(debian13)
