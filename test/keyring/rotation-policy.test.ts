import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { decodeCbor, encodeCbor } from '../../src/crypto/cbor.ts';
import { SUITES, findSuite } from '../../src/crypto/suites.ts';
import {
  newPolicy,
  paused,
  policyCbor,
  policyFromJson,
  policyJson,
  resumed,
  samePolicy,
  sameRules,
  upgradeRefusal,
  withTerms,
} from '../../src/keyring/rotation-policy.ts';
import type { PolicyTerms } from '../../src/keyring/rotation-policy.ts';
import { FULL, NO_TERMS, anyPolicy, codeOf, policy } from './policies.ts';

const numberOf = (id: string): number => findSuite(id).number;

const hex = (value: ReturnType<typeof policyCbor>): string =>
  Buffer.from(encodeCbor(value)).toString('hex');
const number = (id: string): number => findSuite(id).number;

describe('the bytes that the row MAC covers, which no later version may change', () => {
  it('of a policy with every member', () => {
    expect(hex(policyCbor(FULL))).toBe(
      '8765503159364d1b0000010000000000821901031b000001b8dac5b4008203635032596450333044821b000001a22226c89566667265657a6507',
    );
  });

  it('of a policy with none', () => {
    expect(hex(policyCbor(policy()))).toBe('87f6f6f6f6f6f601');
  });

  it('differ wherever policies do', () => {
    fc.assert(
      fc.property(anyPolicy, anyPolicy, (a, b) => {
        const same = JSON.stringify(policyJson(a)) === JSON.stringify(policyJson(b));
        expect(hex(policyCbor(a)) === hex(policyCbor(b))).toBe(same);
        expect(samePolicy(a, b)).toBe(same);
      }),
    );
  });

  it('hold every member', () => {
    expect(decodeCbor(encodeCbor(policyCbor(FULL)))).toEqual([
      'P1Y6M',
      2 ** 40,
      [number('MLKEM1024-P384'), Date.UTC(2030, 0, 1)],
      [3, 'P2Y'],
      'P30D',
      [Date.parse('2026-11-28T12:34:56.789Z'), 'freeze'],
      7,
    ]);
  });
});

describe('stored JSON', () => {
  it('is read back as it was written', () => {
    fc.assert(
      fc.property(anyPolicy, (each) => {
        const read = policyFromJson(JSON.parse(JSON.stringify(policyJson(each))));
        expect(read).toEqual(each);
        expect(samePolicy(read, each)).toBe(true);
      }),
    );
  });

  it('is read as a value that nobody can change', () => {
    const read = policyFromJson(policyJson(FULL));
    for (const each of [read, read.upgrade, read.retire, read.paused]) {
      expect(Object.isFrozen(each)).toBe(true);
    }
  });

  const stored = policyJson(FULL);
  const without = (name: string) =>
    Object.fromEntries(Object.entries(stored).filter(([member]) => member !== name));
  it.each<[string, unknown]>([
    ['null', null],
    ['a list', []],
    ['a text', 'P1Y'],
    ['nothing in it', {}],
    ...Object.keys(stored).map((name): [string, unknown] => [`no ${name}`, without(name)]),
    ['an unknown member', { ...stored, also: null }],
    ['an interval that is no duration', { ...stored, interval: 'P0D' }],
    ['an interval of another form', { ...stored, interval: 365 }],
    ['no uses', { ...stored, maxUses: 0 }],
    ['half a use', { ...stored, maxUses: 1.5 }],
    ['uses as text', { ...stored, maxUses: '5' }],
    ['an upgrade to nothing', { ...stored, upgrade: { ...stored.upgrade, suite: 0 } }],
    ['a time of another form', { ...stored, upgrade: { suite: 257, notBefore: '2030-01-01' } }],
    ['a time as a number', { ...stored, upgrade: { suite: 257, notBefore: 0 } }],
    ['an unknown member of upgrade', { ...stored, upgrade: { ...stored.upgrade, x: 1 } }],
    ['a retirement of nothing', { ...stored, retire: { keepVersions: null, after: null } }],
    ['no kept versions', { ...stored, retire: { keepVersions: 0, after: null } }],
    ['an unknown member of retire', { ...stored, retire: { ...stored.retire, x: 1 } }],
    ['a pause without a reason', { ...stored, paused: { ...stored.paused, reason: '' } }],
    ['an unknown member of paused', { ...stored, paused: { ...stored.paused, by: 'me' } }],
    ['a revision of nothing', { ...stored, revision: 0 }],
    [
      'an inherited member',
      Object.assign(Object.create({ notice: null }) as object, without('notice')),
    ],
  ])('with %s is refused', (_name, json) => {
    expect(codeOf(() => policyFromJson(json))).toBe('integrity_failed');
  });
});

describe('what users give', () => {
  const made = (terms: Partial<PolicyTerms>) => newPolicy({ ...NO_TERMS, ...terms });
  const at = new Date('2030-01-01T00:00:00.000Z');

  it('becomes a policy of revision 1, not paused', () => {
    expect(
      made({ interval: 'P90D', upgrade: { suite: numberOf('ML-KEM-1024'), notBefore: at } }),
    ).toEqual({
      interval: 'P90D',
      maxUses: null,
      upgrade: { suite: number('ML-KEM-1024'), notBefore: at },
      retire: null,
      notice: null,
      paused: null,
      revision: 1,
    });
  });

  it.each<[string, Partial<PolicyTerms>, string]>([
    ['an interval that is no duration', { interval: 'P1.5D' }, 'invalid_value'],
    ['an interval below the hour', { interval: 'PT59M59S' }, 'invalid_value'],
    ['an interval over 100 years', { interval: 'P101Y' }, 'invalid_value'],
    ['no uses', { maxUses: 0 }, 'invalid_value'],
    ['uses that are not exact', { maxUses: 2 ** 53 }, 'invalid_value'],
    ['half a use', { maxUses: 0.5 }, 'invalid_value'],
    [
      'no time',
      { upgrade: { suite: numberOf('A256GCM'), notBefore: new Date(Number.NaN) } },
      'invalid_value',
    ],
    [
      'a time that RFC 3339 cannot write',
      { upgrade: { suite: numberOf('A256GCM'), notBefore: new Date(Date.UTC(10_000, 0, 1)) } },
      'invalid_value',
    ],
    ['a retirement of nothing', { retire: { keepVersions: null, after: null } }, 'invalid_value'],
    ['no kept version', { retire: { keepVersions: 0, after: null } }, 'invalid_value'],
    [
      'a retirement below the hour',
      { retire: { keepVersions: 1, after: 'PT1S' } },
      'invalid_value',
    ],
    ['a notice of nothing', { notice: 'PT0S' }, 'invalid_value'],
    ['a notice as long as the interval', { interval: 'P30D', notice: 'P30D' }, 'invalid_value'],
  ])('%s is refused', (_name, terms, code) => {
    expect(codeOf(() => made(terms))).toBe(code);
  });

  it('may be shorter where the limit says so', () => {
    const terms = { ...NO_TERMS, interval: 'PT2S', notice: 'PT1S' };
    expect(newPolicy(terms, { minimumMs: 2_000 }).interval).toBe('PT2S');
    expect(codeOf(() => newPolicy(terms, { minimumMs: 2_001 }))).toBe('invalid_value');
  });
});

describe('a change', () => {
  const before = policy({ interval: 'P90D' }, 4);
  const terms = { ...NO_TERMS, interval: 'P30D' };
  const pause = { at: new Date(0), reason: 'freeze' };

  it('of the terms raises the revision and leaves a pause', () => {
    expect(withTerms(before, terms)).toEqual({ ...before, interval: 'P30D', revision: 5 });
    const stopped = paused(before, pause);
    expect(withTerms(stopped, terms)).toMatchObject({ paused: pause, revision: 6 });
  });

  it('to the same is none', () => {
    expect(withTerms(before, { ...NO_TERMS, interval: 'P90D' })).toBe(before);
    expect(resumed(before)).toBe(before);
    const stopped = paused(before, pause);
    expect(paused(stopped, { at: new Date(9), reason: 'again' })).toBe(stopped);
  });

  it('pauses and resumes', () => {
    const stopped = paused(before, pause);
    expect(stopped).toEqual({ ...before, paused: pause, revision: 5 });
    expect(resumed(stopped)).toEqual({ ...before, revision: 6 });
    expect(sameRules(resumed(stopped), before)).toBe(true);
    expect(samePolicy(resumed(stopped), before)).toBe(false);
    expect(samePolicy(null, null)).toBe(true);
    expect(samePolicy(null, before)).toBe(false);
    expect(codeOf(() => paused(before, { at: new Date(0), reason: 'a\0b' }))).toBe('invalid_value');
  });
});

describe('an upgrade', () => {
  it('never leaves the purpose or safety from quantum computers', () => {
    for (const from of Object.values(SUITES)) {
      for (const to of Object.values(SUITES)) {
        const purpose = from.class;
        const refusal = upgradeRefusal(to.number, { purpose, suite: from.number });
        const falls = to.strength.quantumVulnerable && !from.strength.quantumVulnerable;
        expect(refusal === null).toBe(to.class === purpose && !falls);
      }
    }
  });

  it('of a KEM key goes to a KEM alone', () => {
    const key = { purpose: 'kem', suite: number('ML-KEM-768') } as const;
    expect(upgradeRefusal(number('ML-KEM-1024'), key)).toBeNull();
    expect(upgradeRefusal(number('A256GCM'), key)).not.toBeNull();
  });
});
