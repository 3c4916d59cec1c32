/** pgsteer in front of Debian 12's Patroni 3.0, etcd 3.4 and PostgreSQL 15. */
import { debian12 } from '../support/patroni.ts'
import { steerScenarios } from './steer-scenarios.ts'

steerScenarios(debian12)
