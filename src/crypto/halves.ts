/** Two halves of one operation, run in parallel: both succeed or neither counts. */
import { wipe } from './secret.ts';
import type { SecretBytes } from './secret.ts';

type Settled<T> = readonly [PromiseSettledResult<T>, PromiseSettledResult<T>];

/** The first rejection's reason is thrown; the classical half's if both failed, for its detail. */
function unwrapBoth<T>([pq, classical]: Settled<T>): readonly [T, T] {
  if (classical.status === 'rejected') throw classical.reason;
  if (pq.status === 'rejected') throw pq.reason;
  return [pq.value, classical.value];
}

/** Waits for both even when one fails early, so that nothing goes on behind the caller's back. */
async function settleBoth<T>(pq: () => Promise<T>, classical: () => Promise<T>) {
  // Started inside async functions: a callback that throws at once is a rejection like any other.
  // The HSM is asked first: it works while a short software half runs on this thread.
  const fromHsm = (async () => classical())();
  return Promise.allSettled([(async () => pq())(), fromHsm]);
}

/** Results that are not secret: (pq, classical). */
export async function bothHalves<T>(
  pq: () => Promise<T>,
  classical: () => Promise<T>,
): Promise<readonly [T, T]> {
  return unwrapBoth(await settleBoth(pq, classical));
}

/** Gives both secrets to `use` and wipes them afterwards, also when one half or `use` fails. */
export async function withBothSecrets<R>(
  pq: () => Promise<SecretBytes>,
  classical: () => Promise<SecretBytes>,
  use: (pqSecret: SecretBytes, classicalSecret: SecretBytes) => R,
): Promise<R> {
  const settled = await settleBoth(pq, classical);
  try {
    return use(...unwrapBoth(settled));
  } finally {
    for (const half of settled) if (half.status === 'fulfilled') wipe(half.value);
  }
}
