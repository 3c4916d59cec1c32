/** Statements that a server is sent in another form than their client wrote them in. */
import type { Classified } from '../routing/classify.ts'
import type { ServerConnection } from '../server/connection.ts'
import { isCarriedByPooler, localStatement, setStatement } from '../server/settings.ts'
import { positionQuery } from './token.ts'

/** What a server is sent in the place of a statement; null: it goes as it is. */
export function standIn(classified: Classified, server: ServerConnection): string | null {
  return positionQuery(classified) ?? localSet(classified, server)
}

/**
 * What stands for a lone SET on a server that is shared behind a pooler: it is tried there, holds in
 * the open transaction, and is made again for each later one.
 */
function localSet({ statements }: Classified, server: ServerConnection): string | null {
  const [statement] = statements
  if (!server.isShared || statements.length !== 1 || statement?.verb !== 'set') return null
  const { name = '', value = 'DEFAULT' } = statement
  return isCarriedByPooler(name) ? null : localStatement(setStatement(name, value))
}
