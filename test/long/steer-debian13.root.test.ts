/** pgsteer in front of Debian 13's Patroni 4.0, etcd 3.5 and PostgreSQL 17, in a chroot. */
import { debian13 } from '../support/patroni.ts'
import { steerScenarios } from '../failover/steer-scenarios.ts'

steerScenarios(debian13)
