/** Starts that cannot be, and say why in one line: no stack, nothing left running. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { describe, expect, it } from '@jest/globals';

import { TestService } from '../e2e/service.ts';

const MARKER = 'what-the-file-holds';

describe('a start that cannot be', () => {
  const failsWith = async (
    environment: Record<string, string>,
    says: RegExp,
    prepare: (dataDir: string) => void = () => undefined,
  ) => {
    const dataDir = mkdtempSync(join(tmpdir(), 'twofold-start-'));
    prepare(dataDir);
    const service = await TestService.start({ dataDir, environment, ready: false });
    try {
      if (service.running) await once(service.child, 'exit');
      expect(service.child.exitCode).toBe(1);
      expect(service.output).toMatch(says);
      expect(service.output).not.toMatch(/\n\s+at .*\(/u);
      expect(service.output).not.toContain(MARKER);
    } finally {
      await service.destroy();
    }
  };

  it(
    'because nobody listens at the database URL says which database',
    () => failsWith({ DATABASE_URL: 'postgresql://nobody:secret@127.0.0.1:1/none' }, /database/iu),
    60_000,
  );

  it('because the development issuer is damaged says which file', () => {
    const damage = (dataDir: string) => {
      writeFileSync(join(dataDir, 'development-issuer.seed'), MARKER, { mode: 0o600 });
    };
    return failsWith({}, /development-issuer\.seed .*\(invalid_value\)/u, damage);
  }, 60_000);

  it('because a key set cannot be used says of which issuer, and quotes nothing', async () => {
    for (const text of [MARKER, `{"keys":[{"kty":"oct","kid":"x","k":"${MARKER}"}]}`]) {
      const file = join(mkdtempSync(join(tmpdir(), 'twofold-start-keys-')), 'jwks.json');
      writeFileSync(file, text);
      const issuer = { issuer: 'i', audience: 'a', jwksFile: file, algorithms: ['ES256'] };
      const environment = { TWOFOLD_ISSUERS: JSON.stringify([issuer]) };
      await failsWith(environment, /issuers\.0\.jwksFile .*\n?.*\(invalid_value\)/u);
      rmSync(dirname(file), { recursive: true });
    }
  }, 120_000);

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
