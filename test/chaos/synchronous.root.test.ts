/** Faults with synchronous_mode on: nothing acknowledged may be lost. */
import { SHARED } from './shared.ts'
import { chaosSuite } from './suite.ts'

chaosSuite('synchronous', 1, SHARED)
