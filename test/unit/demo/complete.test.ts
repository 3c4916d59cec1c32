import { expect, test } from 'vitest'
import { isComplete } from '../../../src/demo/complete.ts'

test.each([
  ['select 1;\n', 'a semicolon'],
  ['select 1; -- done\n', 'a comment after it'],
  ['select 1; /* a /* nested */ one */ ;', 'a nested comment after it'],
  ["select ';';", 'a semicolon in quotes and one outside'],
  ["select 'it''s';", 'a doubled quote'],
  ['select "a;b";', 'a quoted name'],
  ['do $$ begin null; end $$;', 'a dollar quote'],
  ['do $x$ $$ ; $$ $x$;', 'a tagged dollar quote'],
])('%j is complete: %s', (text) => {
  expect(isComplete(text)).toBe(true)
})

test.each([
  ['', 'nothing'],
  ['select 1\n', 'no semicolon'],
  ["select ';", 'an open quote'],
  ['select ";', 'an open name'],
  ['select /* ; ', 'an open comment'],
  ['select 1 -- ;\n', 'a semicolon in a comment only'],
  ['do $$ begin null; ', 'an open dollar quote'],
  ['select 1; select 2', 'a second statement without an end'],
  ["select 1; 'x'", 'a quote after the end'],
])('%j goes on: %s', (text) => {
  expect(isComplete(text)).toBe(false)
})
