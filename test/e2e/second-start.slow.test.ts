/** A second start reuses everything and is ready in under 5 s, not counting what others take. */
import { describe, expect, it } from '@jest/globals';

import { waitedForProcessor } from '../waited.ts';
import { TestService } from './service.ts';

const READY_MS = 5_000;

describe('a second start', () => {
  it('is ready in under 5 s', async () => {
    const first = await TestService.start();
    await first.request('POST', '/v1/admin/keys', { name: 'key', suite: 'MLKEM768-P256' });
    await first.stop();
    const began = performance.now();
    const second = await TestService.start({ dataDir: first.dataDir });
    const elapsed = performance.now() - began;
    const milliseconds = Math.round(elapsed - waitedForProcessor(second.pid));
    try {
      process.stdout.write(`second start: ready after ${String(milliseconds)} ms\n`);
      expect(milliseconds).toBeLessThan(READY_MS);
    } finally {
      await second.destroy();
    }
  }, 120_000);
});
