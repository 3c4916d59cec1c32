/**
 * What a PromQL text asks for: its metrics with the labels it matches, and the labels it groups or joins by. Parsed
 * by Prometheus' own grammar as its editor uses it; an error of syntax is an error here.
 */
import type { SyntaxNode } from '@lezer/common'
import { parser } from '@prometheus-io/lezer-promql'

export interface Selector {
  readonly metric: string
  /** Label, operator, value. */
  readonly matchers: readonly (readonly [label: string, operator: string, value: string])[]
}

export interface Asked {
  readonly selectors: readonly Selector[]
  /** Of by, without, on, ignoring, group_left and group_right. */
  readonly labels: readonly string[]
}

/** Grafana's variables as they would be when everything is chosen. */
export function expanded(expr: string, range = '1h'): string {
  return expr
    .replaceAll('$__rate_interval', '1m')
    .replaceAll('$__range', range)
    .replaceAll('"$instance"', '".+"')
}

/** Errors  Error with the text and the place where its syntax is wrong. */
export function asked(expr: string): Asked {
  const selectors: Selector[] = []
  const labels: string[] = []
  parser.parse(expr).iterate({
    enter: ({ type, from, to, node }) => {
      if (type.isError) throw new Error(`wrong at ${from}: ${expr}`)
      if (type.name === 'VectorSelector') selectors.push(selectorOf(node, expr))
      if (type.name === 'GroupingLabels')
        labels.push(...(expr.slice(from, to).match(/[a-zA-Z_]\w*/g) ?? []))
    },
  })
  return { selectors, labels }
}

function selectorOf(node: SyntaxNode, expr: string): Selector {
  const textOf = (one: SyntaxNode | null): string =>
    one === null ? '' : expr.slice(one.from, one.to)
  const matchers = (node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? []).map(
    (matcher) => {
      const [, label = '', operator = '', value = ''] =
        /^(\w+)\s*(=~|!~|!=|=)\s*"(.*)"$/.exec(textOf(matcher)) ?? []
      return [label, operator, value] as const
    },
  )
  return { metric: textOf(node.getChild('Identifier')), matchers }
}
