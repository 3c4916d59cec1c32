/** Faults with synchronous_mode on: nothing acknowledged may be lost. */
import { chaosSuite } from './suite.ts'

chaosSuite('synchronous', 1)
