export function canIsolate(): boolean
export function isolated(scratch: string, command: readonly string[]): string[]
