/** `deploy/make-site` makes what is missing and replaces nothing, whatever half of a pair is there. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { PROJECT } from './image.ts';

let folder: string;
let made = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-site-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const site = (): string => {
  made += 1;
  const path = join(folder, `site-${String(made)}`);
  mkdirSync(path);
  return path;
};
const run = (path: string) =>
  spawnSync('sh', [join(PROJECT, 'deploy/make-site'), path], { encoding: 'utf8' });
const content = (path: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(path).map((name) => [name, readFileSync(join(path, name), 'hex')]),
  );

const asRoot = process.geteuid?.() === 0;

describe('a site', () => {
  it('is made for root only', () => {
    const path = site();
    if (asRoot) expect(run(path).status).toBe(0);
    else expect(run(path)).toMatchObject({ status: 1 });
  });

  it('is left as it is by a second run', () => {
    if (!asRoot) return;
    const path = site();
    expect(run(path).status).toBe(0);
    const before = content(path);
    expect(run(path)).toMatchObject({ status: 0, stdout: '' });
    expect(content(path)).toEqual(before);
  });

  it('comes with what the containers mount from the clone, which a umask may have closed', () => {
    if (!asRoot) return;
    const clone = site();
    cpSync(join(PROJECT, 'deploy'), join(clone, 'deploy'), { recursive: true });
    const mounted = ['postgres/start', 'postgres/pg_hba.conf', 'zones/start', 'zones/patroni.yml'];
    for (const name of mounted) chmodSync(join(clone, 'deploy', name), 0o600);
    const { status } = spawnSync('sh', [join(clone, 'deploy/make-site'), join(clone, 'site')]);
    expect(status).toBe(0);
    const modes = mounted.map((name) => statSync(join(clone, 'deploy', name)).mode & 0o777);
    expect(modes).toEqual(mounted.map(() => 0o644));
  });

  it.each([
    ['server.key', 'server.pem'],
    ['database.pem', 'database.key'],
    ['ca.key', 'ca.pem'],
    ['issuer.key', 'jwks.json'],
  ])('of which %s is there without %s is refused, and nothing of it replaced', (kept) => {
    if (!asRoot) return;
    const path = site();
    writeFileSync(join(path, kept), 'mine');
    expect(run(path).status).toBe(1);
    expect(readFileSync(join(path, kept), 'utf8')).toBe('mine');
  });

  it('whose authority was renewed alone is refused: PostgreSQL could not be trusted', () => {
    if (!asRoot) return;
    const path = site();
    expect(run(path).status).toBe(0);
    for (const name of ['ca.pem', 'ca.key']) rmSync(join(path, name));
    const before = readFileSync(join(path, 'database.pem'), 'utf8');
    const { status, stderr } = run(path);
    expect([status, stderr]).toEqual([1, expect.stringContaining('database.pem')]);
    expect(readFileSync(join(path, 'database.pem'), 'utf8')).toBe(before);
  });
});
