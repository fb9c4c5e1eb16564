/** Keys as a plan sees them. */
import { findSuite } from '../../src/crypto/suites.ts';
import { identityOf } from '../../src/rotation/due.ts';
import type { NoticeAction } from '../../src/rotation/due.ts';
import type { ScheduledKey, ScheduledVersion } from '../../src/rotation/scheduled-key.ts';

export const DAY = 86_400_000;
export const START = Date.UTC(2026, 0, 1);
export const at = (days: number): Date => new Date(START + days * DAY);
export const suite = (id: string): number => findSuite(id).number;

/** Active since the day of its number, superseded the day after. */
export const version = (
  number: number,
  over: Partial<ScheduledVersion> = {},
): ScheduledVersion => ({
  version: number,
  state: 'active',
  suite: suite('MLKEM768-P256'),
  createdAt: at(number),
  activateAt: null,
  activatedAt: at(number),
  deactivateAt: null,
  destroyAt: null,
  supersededAt: at(number + 1),
  retired: 0,
  ...over,
});

/** With `count` versions of which the last is the primary. */
export const key = (count: number, over: Partial<ScheduledKey> = {}): ScheduledKey => ({
  id: '7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90',
  purpose: 'wrap',
  labels: {},
  primary: count,
  minUsableVersion: 1,
  revision: 1,
  policyName: null,
  suspended: false,
  destroyAt: null,
  destroyedAt: null,
  uses: 0,
  versions: Array.from({ length: count }, (_, index) =>
    version(index + 1, index + 1 === count ? { supersededAt: null } : {}),
  ),
  noticed: [],
  retiring: [],
  ...over,
});

/** `key` once the notice was given at `givenAt`. */
export const withNotice = (of: ScheduledKey, notice: NoticeAction, givenAt: Date): ScheduledKey => {
  const given = notice.of === 'retirement' ? [{ ...notice, givenAt }] : [];
  return {
    ...of,
    noticed: [...of.noticed, identityOf(notice)],
    retiring: [...of.retiring, ...given],
  };
};

/** `key` with one of its versions changed. */
export const withVersion = (
  of: ScheduledKey,
  number: number,
  over: Partial<ScheduledVersion>,
): ScheduledKey => ({
  ...of,
  versions: of.versions.map((each) => (each.version === number ? { ...each, ...over } : each)),
});
