/** Runs and counts the cases of Wycheproof's files. */
import { expect } from '@jest/globals';

import { hasPublishedFolder, report } from './published.ts';
import { groupsOf, WYCHEPROOF } from './wycheproof.ts';
import type { Counts, Group, Test } from './wycheproof.ts';

/** Prints what was counted; of a whole file it must be exactly what is expected, of an extract a part. */
export function settleCounts(name: string, counts: Record<string, number>): void {
  const expected = WYCHEPROOF[name];
  if (expected === undefined) throw new Error(`no counts of ${name}`);
  const total = Object.values<number>({ ...expected }).reduce((sum, count) => sum + count, 0);
  const ran = Object.values(counts).reduce((sum, count) => sum + count, 0);
  if (hasPublishedFolder()) {
    report(`Wycheproof ${name}: ${JSON.stringify(counts)}`);
    expect([name, counts]).toEqual([name, expected]);
    return;
  }
  report(
    `Wycheproof ${name}: extract ${JSON.stringify(counts)}, ${total - ran} of ${total} NOT run`,
  );
  expect(Object.keys(expected)).toEqual(expect.arrayContaining(Object.keys(counts)));
}

/**
 * Hands every case to `check`, which says whether it was accepted, or undefined for a form that is not
 * ours. What is valid must be accepted and what is invalid refused; both are counted.
 */
export async function each(
  name: string,
  check: (test: Test, group: Group) => boolean | undefined | Promise<boolean | undefined>,
): Promise<void> {
  const counts: Record<string, number> = {};
  for (const group of groupsOf(name)) {
    for (const test of group.tests) {
      const accepted = await check(test, group);
      const outcome = outcomeOf(test, accepted);
      counts[outcome] = (counts[outcome] ?? 0) + 1;
      if (accepted === undefined || test.result === 'acceptable') continue;
      const told = { tcId: test['tcId'], comment: test['comment'], result: test.result };
      expect({ ...told, accepted }).toEqual({ ...told, accepted: test.result === 'valid' });
    }
  }
  settleCounts(name, counts);
}

function outcomeOf({ result }: Test, accepted: boolean | undefined): keyof Counts {
  if (accepted === undefined) return 'skipped';
  if (result === 'acceptable') return accepted ? 'acceptableAccepted' : 'acceptableRefused';
  return accepted ? 'valid' : 'refused';
}

/** @returns whether it ran; what it throws must have a code of ours or of OpenSSL */
export function succeeds(run: () => void): boolean {
  try {
    run();
    return true;
  } catch (error) {
    expect(error).toHaveProperty('code');
    return false;
  }
}
