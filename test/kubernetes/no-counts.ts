/** Where nothing limits an API server. */
import type { UseCounts } from '../../src/kubernetes/ports.ts';

export const NO_COUNTS: UseCounts = {
  count: () => Promise.resolve(() => undefined),
  limitOf: () => null,
  isSummed: () => false,
};
