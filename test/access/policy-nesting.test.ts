/** Texts that are too much for Cedar are refused before it sees them, and what is taken can be decided by. */
import { expect, it } from '@jest/globals';
import { readSchema } from '../../src/access/cedar-schema.ts';
import { evaluate } from '../../src/access/cedar-sets.ts';
import { compilePolicy, validatePolicy } from '../../src/access/compiled-policy.ts';
import { SCHEMA } from '../../src/access/policies.ts';
import { PolicyInvalid } from '../../src/access/policy-error.ts';
import type { PolicyComplaint } from '../../src/access/policy-error.ts';
import { conditionsOf } from '../../src/access/relevant.ts';

const when = (condition: string) =>
  `permit (principal, action == Action::"keys.read", resource)\nwhen { ${condition} };`;
const around = (open: string, inner: string, close: string, times: number) =>
  `${open.repeat(times)}${inner}${close.repeat(times)}`;
const complaintsAbout = (text: string): readonly PolicyComplaint[] => {
  try {
    validatePolicy(readSchema(SCHEMA), text, 'p');
    return [];
  } catch (error) {
    if (!(error instanceof PolicyInvalid)) throw error;
    return error.complaints;
  }
};
/** Throws where Cedar cannot be asked. */
const evaluated = (text: string) =>
  evaluate(text, () => ({ p: conditionsOf(compilePolicy(text)) }), {
    principal: { type: 'User', id: 'a' },
    action: 'keys.read',
    resource: { type: 'Key', id: 'k' },
    context: { suite: 'A256GCM' },
    entities: [],
  }).errors;

it.each([
  ['parentheses', around('(', 'true', ')', 4_000)],
  ['sets', around('[', '1', ']', 140)],
  ['records', around('{a: ', '1', '}', 140)],
  ['brackets before a comma', around('[', '1', ', 1]', 140)],
  ['sums', around('1+', '1', '', 4_000)],
  ['sums within lists', around('[', '1', `${'+1'.repeat(90)}, 1]`, 40)],
  ['products', around('1*', '1', '', 4_000)],
  ['members', around('', 'context', '.a', 4_000)],
  ['negations', around('!', 'true', '', 4_000)],
  ['signs', around('-', '1', '', 4_000)],
  ['what a comment does not hide', `"//" == //"\r${around('(', 'true', ')', 4_000)}`],
  ['what a string does not hide', `"\\\\" == ${around('(', '"x"', ')', 4_000)}`],
])('refuses %s that nest too deeply, in their place, and goes on', (_what, condition) => {
  const complaints = complaintsAbout(when(condition));
  expect(complaints).toEqual([
    {
      line: 2,
      column: expect.any(Number) as unknown,
      message: 'brackets or operators are nested too deeply here',
    },
  ]);
  expect(complaintsAbout(when('((true))'))).toEqual([]);
});

it('counts neither strings and comments nor what stands side by side', () => {
  const brackets = '('.repeat(200);
  const list = Array.from({ length: 400 }, () => '(1 + 1)').join(', ');
  const text = when(`"${brackets}\\"${brackets}" != "" && [${list}].contains(1) // ${brackets}\n`);
  expect(complaintsAbout(text)).toEqual([]);
  const many = Array.from({ length: 50 }, (_, at) => `context.suite == "${String(at)}"`);
  const chain = `context has suite && (${many.join(' || ')})`;
  expect(complaintsAbout(when(chain))).toEqual([]);
  expect(evaluated(when(chain))).toEqual([]);
});

it.each([
  ['&&', (times: number) => around('context has suite && ', 'true', '', times)],
  ['sums', (times: number) => `${around('1+', '1', '', times)} == 1`],
  ['negations', (times: number) => around('!(', 'true', ')', times)],
  ['sets', (times: number) => `${around('[', '1', ']', times)} != [[2]]`],
  ['if', (times: number) => around('if true then ', 'true', ' else false', times)],
])('takes no more of %s than Cedar can evaluate', (_what, condition) => {
  const texts = Array.from({ length: 70 }, (_, at) => when(condition(at + 1)));
  const nested = (text: string) =>
    complaintsAbout(text).some(({ message }) => message.includes('nested'));
  const taken = texts.filter((text) => !nested(text));
  expect(taken.length).toBeGreaterThan(25);
  for (const text of taken) expect(evaluated(text)).toEqual([]);
});
