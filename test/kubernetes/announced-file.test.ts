/** What an agent announced outlives it: a service that was set back is refused by the one that follows. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';

import { startAgent } from '../../src/main/kms-plugin/agent.ts';
import { SILENT_LOG, openAgentForm } from './agent-form.ts';
import type { AgentForm } from './agent-form.ts';
import { PluginClient } from './apiserver.ts';

const INTERNAL = 13;

interface Held {
  readonly keyId: string;
  readonly announced: number;
  readonly probe?: string;
}

let form: AgentForm;
let path: string;
beforeAll(async () => {
  form = await openAgentForm('A256GCM');
  path = join(form.folder, 'announced.json');
});
afterAll(() => form.close());
beforeEach(() => rmSync(path, { force: true, recursive: true }));

const held = () => JSON.parse(readFileSync(path, 'utf8')) as Held;
/** By itself, without the probe of another version or key. */
const hold = (changes: object) =>
  writeFileSync(path, JSON.stringify({ ...held(), probe: undefined, ...changes }), { mode: 0o600 });

/** An agent of its own socket, with what it is asked meanwhile. */
async function during<T>(
  work: (plugin: PluginClient) => Promise<T>,
  changes: { readonly log?: typeof SILENT_LOG } = {},
): Promise<T> {
  const socket = join(form.folder, `${randomBytes(4).toString('hex')}.sock`);
  const agent = await startAgent({ ...form.options, socket, announced: path, ...changes });
  const plugin = new PluginClient(socket);
  try {
    await agent.served;
    return await work(plugin);
  } finally {
    plugin.close();
    await agent.stop();
  }
}
const healthOf = (plugin: PluginClient) => plugin.status().then(({ healthz }) => healthz);

test('it is kept before anybody is told, and rises', async () => {
  await during(async (plugin) => {
    expect(existsSync(path)).toBe(false);
    expect(await healthOf(plugin)).toBe('ok');
    expect(held().announced).toBe(1);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await form.rotate();
    form.expire();
    expect(await healthOf(plugin)).toBe('ok');
    expect(held().announced).toBe(2);
  });
  expect(await during(healthOf)).toBe('ok');
});

test('an agent that starts before a service that was set back seals nothing, and opens what is there', async () => {
  const seed = randomBytes(32);
  const value = await during(async (plugin) => {
    await plugin.status();
    return plugin.encrypt(seed);
  });
  // As it would be, had another version been announced and then the database set back.
  hold({ announced: 3 });
  await during(async (plugin) => {
    const refusal = expect.stringMatching(/^log_rolled_back: Version 3 was announced/u) as unknown;
    await expect(plugin.status()).rejects.toMatchObject({ code: INTERNAL, details: refusal });
    await expect(plugin.encrypt(seed)).rejects.toMatchObject({ code: INTERNAL });
    expect(seed.equals(await plugin.decrypt(value))).toBe(true);
  });
  expect(held().announced).toBe(3);
  // Later than that: no key_id comes back.
  await form.rotate();
  await form.rotate();
  expect(await during(healthOf)).toBe('ok');
  expect(held().announced).toBe(4);
});

test('an agent that starts before a service whose version was made anew seals nothing, and opens what is there', async () => {
  const value = await during(async (plugin) => {
    await plugin.status();
    return plugin.encrypt(randomBytes(32));
  });
  const { announced, probe = '' } = held();
  // As the lost version would have sealed it.
  const lost = Buffer.from(probe, 'base64');
  lost.fill(0, lost.length - 16);
  hold({ probe: lost.toString('base64') });
  await during(async (plugin) => {
    const refusal = expect.stringMatching(/^log_rolled_back: Version \d+ is no longer/u) as unknown;
    await expect(plugin.status()).rejects.toMatchObject({ code: INTERNAL, details: refusal });
    await expect(plugin.encrypt(randomBytes(32))).rejects.toMatchObject({ code: INTERNAL });
    expect(await plugin.decrypt(value)).toHaveLength(32);
  });
  expect(held()).toMatchObject({ announced, probe: lost.toString('base64') });
  await form.rotate();
  expect(await during(healthOf)).toBe('ok');
  expect(held().announced).toBe(announced + 1);
});

test('a file of an agent from before gets a probe, which stays for as long as its version is announced', async () => {
  await during(healthOf);
  hold({});
  expect(await during(healthOf)).toBe('ok');
  const { probe } = held();
  expect(probe).toEqual(expect.any(String));
  expect(await during(healthOf)).toBe('ok');
  expect(held().probe).toBe(probe);
  await form.rotate();
  expect(await during(healthOf)).toBe('ok');
  expect(held().probe).not.toBe(probe);
});

test('what a predecessor announced while its successor waited counts', async () => {
  await during(async (plugin) => {
    await plugin.status();
    await during(async (successor) => {
      hold({ announced: 9 });
      await expect(successor.status()).rejects.toMatchObject({ code: INTERNAL });
    });
  });
});

test('another key is refused, until the file is removed', async () => {
  await during(healthOf);
  hold({ keyId: '00112233-4455-6677-8899-aabbccddeeff' });
  await during(async (plugin) => {
    const refusal = expect.stringContaining(path) as unknown;
    await expect(plugin.status()).rejects.toMatchObject({ details: refusal });
  });
  rmSync(path);
  expect(await during(healthOf)).toBe('ok');
});

test.each<[string, () => void]>([
  ['holds something else', () => writeFileSync(path, '{"announced":', { mode: 0o600 })],
  ['holds half of it', () => hold({ keyId: undefined })],
  ['holds a probe of another version', () => hold({ announced: 99, probe: held().probe })],
  ['holds a probe that is none', () => hold({ probe: 'AAAA' })],
  ['holds no number', () => hold({ announced: 1.5 })],
  ['is of another cluster', () => hold({ cluster: 'c2' })],
  ['is of another key', () => hold({ key: 'other' })],
  ['is open to others', () => chmodSync(path, 0o644)],
])('no agent starts where the file %s', async (_what, alter) => {
  await during(healthOf);
  alter();
  await expect(during(healthOf)).rejects.toMatchObject({ code: 'invalid_value' });
});

test('where it cannot be written the log says so once, the provider serves, and it is written when it can be', async () => {
  const said: string[] = [];
  const say = (_about: object, message: string) => void said.push(message);
  const log = { ...SILENT_LOG, error: say as () => undefined };
  const place = path;
  path = join(form.folder, 'nowhere', 'announced.json');
  try {
    await during(
      async (plugin) => {
        for (let n = 0; n < 3; n += 1) {
          expect(await healthOf(plugin)).toBe('ok');
          form.expire();
        }
        expect([said.length, existsSync(path)]).toEqual([1, false]);
        mkdirSync(join(form.folder, 'nowhere'));
        expect(await healthOf(plugin)).toBe('ok');
        expect(held().announced).toBeGreaterThan(0);
      },
      { log },
    );
  } finally {
    path = place;
  }
  expect(said).toHaveLength(1);
});
