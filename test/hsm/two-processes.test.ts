import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { HsmKey, HsmMaterial } from '../../src/hsm/port.ts';
import { makeToken, ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

const CHILD = join(import.meta.dirname, 'token-user-child.ts');
const HMAC = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
const X25519 = { kind: 'x25519', use: 'derive' } as const;
const BASE = Uint8Array.from({ length: 32 }, (_, index) => (index === 0 ? 9 : 0));

const bytes = (hex: unknown) => Uint8Array.from(Buffer.from(String(hex), 'hex'));

function materialOf(line: Record<string, unknown>): HsmMaterial {
  const binary = ['blob', 'check', 'objectId'].filter((name) => name in line);
  const decoded = Object.fromEntries(binary.map((name) => [name, bytes(line[name])]));
  return { ...line, ...decoded } as unknown as HsmMaterial;
}

describe('two processes on one token', () => {
  let fixture: TokenFixture;
  beforeEach(async () => {
    fixture = await makeToken();
  });
  afterEach(() => {
    fixture.remove();
  });

  it('use each other’s keys while both work', async () => {
    const hsm = await fixture.open();
    try {
      await hsm.useRoot(ROOT);
      const own = await hsm.generate(HMAC, { custody: 'hsm-wrapped' });
      const key: HsmKey = { id: randomUUID(), spec: HMAC, material: own };
      const child = spawn(process.execPath, [CHILD, fixture.folder], { stdio: 'pipe' });
      const output = text(child.stdout);
      const macs = new Set<string>();
      let calls = 0;
      while (child.exitCode === null || calls < 200) {
        macs.add(Buffer.from(await hsm.mac(key, Buffer.from('same'))).toString('hex'));
        calls += 1;
      }
      expect(macs.size).toBe(1);
      const lines = (await output).trim().split('\n');
      const [wrapped, token, result] = lines.map(
        (line) => JSON.parse(line) as Record<string, unknown>,
      );
      const theirs = { id: randomUUID(), spec: HMAC, material: materialOf(wrapped ?? {}) };
      for (const [index, expected] of (result?.['macs'] as string[]).entries()) {
        const mac = await hsm.mac(theirs, Buffer.from(`${index}`));
        expect(Buffer.from(mac).toString('hex')).toBe(expected);
      }
      const pair = { id: randomUUID(), spec: X25519, material: materialOf(token ?? {}) };
      const point = (await hsm.ecdh(pair, BASE)).reveal();
      expect(Buffer.from(point).toString('hex')).toBe(token?.['check']);
      expect(await hsm.tokenKeys(ROOT.installation)).toHaveLength(1);
    } finally {
      await hsm.close();
    }
  });
});
