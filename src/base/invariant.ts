/**
 * What must hold, said in code. A broken invariant is a bug of ours: it is thrown, never answered.
 */

/** Throws when `condition` does not hold; `what` names the rule that was broken. */
export function invariant(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${what}`)
}

/** Ends a switch over a closed union: the type checker proves that no case is left. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${String(value)}`)
}
