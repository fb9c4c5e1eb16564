/** Starts that cannot be, and say why in one line: no stack, nothing left running. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

import { describe, expect, it } from '@jest/globals';

import { TestService } from '../e2e/service.ts';

describe('a start that cannot be', () => {
  const failsWith = async (environment: Record<string, string>, says: RegExp) => {
    const service = await TestService.start({ environment, ready: false });
    try {
      if (service.running) await once(service.child, 'exit');
      expect(service.child.exitCode).toBe(1);
      expect(service.output).toMatch(says);
      expect(service.output).not.toMatch(/\n\s+at .*\(/u);
    } finally {
      await service.destroy();
    }
  };

  it(
    'because nobody listens at the database URL says which database',
    () => failsWith({ DATABASE_URL: 'postgresql://nobody:secret@127.0.0.1:1/none' }, /database/iu),
    60_000,
  );

  it('because a port is taken says which', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const port = String((taken.address() as AddressInfo).port);
    try {
      await failsWith({ TWOFOLD_PORT: port }, new RegExp(port, 'u'));
      await failsWith({ TWOFOLD_METRICS_PORT: port }, new RegExp(port, 'u'));
    } finally {
      taken.close();
    }
  }, 120_000);
});
