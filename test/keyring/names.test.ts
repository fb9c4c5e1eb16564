import { describe, expect, it } from '@jest/globals';
import {
  checkLabels,
  checkName,
  checkReason,
  isName,
  mergeLabels,
  sameLabels,
} from '../../src/keyring/names.ts';

const refused = expect.objectContaining({ code: 'invalid_value' });
const uuid = '7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90';

describe('key names', () => {
  it.each([
    'a',
    '0',
    'a..b',
    'a--',
    'model-weights_v2.1',
    'x'.repeat(128),
    `${uuid}0`,
    'constructor',
  ])('takes %s', (name) => {
    expect(() => checkName(name)).not.toThrow();
    expect(isName(name)).toBe(true);
  });

  it.each([
    '',
    '.',
    '..',
    '-a',
    '_a',
    'A',
    'a b',
    'a/b',
    'a\n',
    '\na',
    'a\0',
    'ä',
    'x'.repeat(129),
    '__proto__',
    uuid,
    uuid.replaceAll('-', ''),
    '7d3f-1c52-8a35-4b0f-9c53-2f6f-7a1e-2b90',
    `${uuid}-`,
  ])('refuses %j', (name) => {
    expect(() => checkName(name)).toThrow(refused);
    expect(isName(name)).toBe(false);
  });
});

describe('labels', () => {
  it.each<[string, Record<string, string>]>([
    ['NUL', { a: 'x\0' }],
    ['a control character', { a: 'x\u009b' }],
    ['a lone surrogate', { a: 'x\ud800' }],
    ['a long value', { a: 'x'.repeat(256) }],
    ['an empty name', { '': 'x' }],
    ['a long name', { ['x'.repeat(64)]: 'x' }],
    ['a name of a prototype', JSON.parse('{"__proto__":"x"}') as Record<string, string>],
    ['65 labels', Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`l${index}`, '']))],
  ])('refuse %s', (_name, labels) => {
    expect(() => checkLabels(labels)).toThrow(refused);
    expect(() => mergeLabels({}, labels)).toThrow(refused);
  });

  it('merge by RFC 7396: named ones change, null removes, the others stay', () => {
    const merged = mergeLabels(
      { b: '1', a: '2', constructor: '3' },
      { b: null, c: '4', a: '5', zz: null },
    );
    expect(Object.entries(merged)).toEqual([
      ['a', '5'],
      ['c', '4'],
      ['constructor', '3'],
    ]);
  });

  it('are the same whatever their order, and whatever a prototype has', () => {
    expect(sameLabels({ a: '1', bb: '2' }, { bb: '2', a: '1' })).toBe(true);
    expect(sameLabels({ a: '1' }, { a: '2' })).toBe(false);
    expect(sameLabels({ a: '1' }, { b: '1' })).toBe(false);
    expect(sameLabels({ a: '1' }, {})).toBe(false);
    expect(sameLabels({ constructor: '1' }, { a: '1' })).toBe(false);
  });
});

describe('reasons', () => {
  it.each(['x', 'x'.repeat(512), 'Wartung – geplant'])('take %s', (reason) => {
    expect(() => checkReason(reason)).not.toThrow();
  });
  it.each(['', 'x'.repeat(513), 'a\0b', 'a\nb', 'a\ud800'])('refuse %j', (reason) => {
    expect(() => checkReason(reason)).toThrow(refused);
  });
});
