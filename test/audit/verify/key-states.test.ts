/** What the replay of a key's changes takes after its destruction, and what it does not. */
import { expect, it } from '@jest/globals';
import { KeyStates } from '../../../src/audit/verify/key-states.ts';
import type { KeyChange } from '../../../src/audit/verify/key-changes.ts';
import { Problems } from '../../../src/audit/verify/problems.ts';

const AT = '2030-01-01T00:00:00.000Z';
const change = (revision: number, more: Partial<KeyChange>): KeyChange => ({
  index: revision,
  revision,
  version: 1,
  versionRevision: null,
  created: null,
  made: null,
  fields: {},
  ofVersion: false,
  ...more,
});

function brokenBy(last: Partial<KeyChange>): readonly string[] {
  const problems = new Problems(10);
  const states = new KeyStates(problems, true);
  const changes = [
    change(1, { created: 'k', made: { number: 1, state: 'active' } }),
    change(2, { fields: { aliases: [[], ['old']] } }),
    change(3, { fields: { destroyedAt: [null, AT], primary: [1, null] } }),
    change(4, last),
  ];
  for (const each of changes) states.take('00'.repeat(16), 'default', each, true);
  states.finish();
  return problems.kept.map(({ code, why }) => `${code}: ${why}`);
}

it('takes that a destroyed key gives up an alias, and nothing else', () => {
  const gone = ['transition_broken: it changes after its destruction'];
  expect(brokenBy({ fields: { aliases: [['old'], []] } })).toEqual([]);
  // Moved: the entry is that of the key which takes it, and names no version of this one.
  expect(brokenBy({ version: null })).toEqual([]);
  expect(brokenBy({})).toEqual(gone);
  expect(brokenBy({ fields: { labels: [[], ['a']] } })).toEqual(gone);
  expect(brokenBy({ fields: { aliases: [['old'], []], labels: [[], ['a']] } })).toEqual(gone);
});
