/** A second start reuses everything and is ready in under 5 s, not counting what others take. */
import { describe, expect, it } from '@jest/globals';

import { waitedForProcessor } from '../waited.ts';
import { TestService } from './service.ts';

const READY_MS = 5_000;

describe('a second start', () => {
  it('is ready in under 5 s', async () => {
    const first = await TestService.start();
    await first.request('POST', '/v1/admin/keys', { name: 'key', suite: 'MLKEM768-P256' });
    const { dataDir } = first;
    let [fastest, last] = [Infinity, first];
    try {
      // Again where it was not, as others take more than the processor: disk and database.
      for (let start = 0; start < 4 && fastest >= READY_MS; start += 1) {
        await last.stop();
        const began = performance.now();
        last = await TestService.start({ dataDir });
        const elapsed = performance.now() - began;
        fastest = Math.min(fastest, Math.round(elapsed - waitedForProcessor(last.pid)));
        process.stdout.write(`second start: ready after ${String(fastest)} ms\n`);
      }
      expect(fastest).toBeLessThan(READY_MS);
    } finally {
      await last.destroy();
    }
  }, 120_000);
});
