/** Faults with asynchronous replication: what is lost, only the old primary had. */
import { chaosSuite } from './suite.ts'

chaosSuite('asynchronous', 2)
