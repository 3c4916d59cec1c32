/** What judges texts, without a worker around it. */
import type { Judge } from '../../src/client/batch.ts'
import type { Catalogue } from '../../src/routing/catalogue.ts'
import { Statements } from '../../src/routing/statements.ts'

export function judgeBy(catalogue: Catalogue): Judge {
  const statements = new Statements(1000)
  statements.setCatalogue(catalogue)
  return {
    classify: (text) => statements.classify(text),
    judge: (bytes, start, end) => statements.judge(bytes, start, end),
  }
}
