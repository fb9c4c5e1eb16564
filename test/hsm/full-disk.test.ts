/** A real full file system under the token: a small tmpfs, where this user may mount one. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { makeToken, ROOT, temporaryFolder } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

const INSTALLATION = '00010203-0405-0607-0809-0a0b0c0d0e0f';
const idOf = (last: number) => Uint8Array.from({ length: 37 }, (_, i) => (i === 36 ? last : i));
const X25519 = { kind: 'x25519', use: 'derive' } as const;

function mount(folder: string): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', folder]).status === 0;
}

const canMount = (() => {
  const folder = temporaryFolder();
  const mounted = mount(folder);
  if (mounted) spawnSync('umount', [folder]);
  return mounted;
})();

(canMount ? describe : describe.skip)('a full file system under the token', () => {
  let fixture: TokenFixture;
  let folder: string;
  let conf: string;

  beforeEach(async () => {
    fixture = await makeToken();
    folder = join(fixture.folder, 'small');
    conf = join(fixture.folder, 'small.conf');
    mkdirSync(folder);
    expect(mount(folder)).toBe(true);
    const tokens = join(fixture.folder, 'hsm', 'tokens');
    cpSync(tokens, folder, { recursive: true });
    writeFileSync(conf, readFileSync(fixture.token.softhsmConf, 'utf8').replace(tokens, folder));
  });
  afterEach(() => {
    spawnSync('umount', [folder]);
    fixture.remove();
  });

  it('is named, leaves other calls alone, and is over when there is room', async () => {
    const hsm = await fixture.open({ env: { SOFTHSM2_CONF: conf } });
    try {
      await hsm.useRoot(ROOT);
      let made = 0;
      let code = 'ok';
      while (code === 'ok' && made < 200) {
        code = await hsm.generate(X25519, { custody: 'hsm-token', objectId: idOf(made) }).then(
          () => 'ok',
          (error: unknown) => (TwofoldError.is(error) ? error.code : 'another error'),
        );
        if (code === 'ok') made += 1;
      }
      expect(code).toBe('storage_full');
      expect(made).toBeGreaterThan(5);
      expect(hsm.status().ready).toBe(true);
      const keys = await hsm.tokenKeys(INSTALLATION);
      expect(keys).toHaveLength(made);

      const spec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
      const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
      expect(await hsm.mac({ id: 'k', spec, material }, Buffer.from('x'))).toHaveLength(32);

      for (const key of keys.slice(0, 5)) await hsm.destroyTokenKey(key);
      await hsm.generate(X25519, { custody: 'hsm-token', objectId: idOf(250) });
      expect(await hsm.tokenKeys(INSTALLATION)).toHaveLength(made - 4);
    } finally {
      await hsm.close();
    }
  });
});
