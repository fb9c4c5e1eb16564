/** Policies as values, and arbitrary ones for property tests. */
import fc from 'fast-check';
import { findSuite } from '../../src/crypto/suites.ts';
import { TwofoldError } from '../../src/errors.ts';
import { newPolicy } from '../../src/keyring/rotation-policy.ts';
import type { PolicyTerms, RotationPolicy } from '../../src/keyring/rotation-policy.ts';

const numberOf = (id: string): number => findSuite(id).number;

export const NO_TERMS: PolicyTerms = {
  interval: null,
  maxUses: null,
  upgrade: null,
  retire: null,
  notice: null,
};

export const policy = (terms: Partial<PolicyTerms> = {}, revision = 1): RotationPolicy =>
  newPolicy({ ...NO_TERMS, ...terms }, { minimumMs: 1_000 }, revision);

/** Every member set. */
export const FULL: RotationPolicy = {
  ...policy({
    interval: 'P1Y6M',
    maxUses: 2 ** 40,
    upgrade: { suite: numberOf('MLKEM1024-P384'), notBefore: new Date('2030-01-01T00:00:00.000Z') },
    retire: { keepVersions: 3, after: 'P2Y' },
    notice: 'P30D',
  }),
  paused: { at: new Date('2026-11-28T12:34:56.789Z'), reason: 'freeze' },
  revision: 7,
};

const count = (max: number) => fc.integer({ min: 1, max });
const units = (names: string) =>
  fc
    .array(count(9), { minLength: names.length, maxLength: names.length })
    .map((counts) => counts.map((each, index) => `${String(each)}${names[index] ?? ''}`).join(''));
export const anyDuration = fc.oneof(
  units('Y').map((text) => `P${text}`),
  units('M').map((text) => `P${text}`),
  units('YMD').map((text) => `P${text}`),
  units('W').map((text) => `P${text}`),
  count(400).map((days) => `P${String(days)}D`),
  count(100).map((hours) => `PT${String(hours)}H`),
  units('D').chain((days) => units('HMS').map((text) => `P${days}T${text}`)),
);
const perhaps = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
const when = fc
  .integer({ min: 0, max: Date.UTC(2100, 0, 1) })
  .map((milliseconds) => new Date(milliseconds));

export const anyRetirement = fc
  .record({ keepVersions: perhaps(count(5)), after: perhaps(anyDuration) })
  .map((retire) =>
    retire.keepVersions === null && retire.after === null ? { ...retire, keepVersions: 1 } : retire,
  );

export const anyPolicy: fc.Arbitrary<RotationPolicy> = fc.record({
  interval: perhaps(anyDuration),
  maxUses: perhaps(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })),
  upgrade: perhaps(fc.record({ suite: fc.constantFrom(0x0101, 0x0103), notBefore: when })),
  retire: perhaps(anyRetirement),
  notice: perhaps(anyDuration),
  paused: perhaps(
    fc.record({ at: when, reason: fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }) }),
  ),
  revision: count(1_000),
});

/** The code that a call throws. */
export function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (TwofoldError.is(error)) return error.code;
    throw error;
  }
  return 'no error';
}
