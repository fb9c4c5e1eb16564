/**
 * What any form of the provider has to do for an API server, in that order in which one asks. Run against
 * the form inside the server and against the agent.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

import { NAME } from '../../src/name.ts';
import { ApiServer, PluginClient } from './apiserver.ts';
import type { Encrypted, Etcd, StoredObject } from './apiserver.ts';
import { field, integer } from './stored-objects.ts';

/** A provider that runs, and the operator's hand on its key. */
export interface Form {
  readonly socket: string;
  /** A new version of the key, which becomes the primary one. */
  rotate(): Promise<void>;
  /** Puts an earlier version back as the primary one. */
  setPrimary(version: number): Promise<void>;
  suspend(): Promise<void>;
  resume(): Promise<void>;
  /** Ends the provider without a word and starts another in its place. */
  replace(): Promise<void>;
  /** The same seed under the same key, by a provider of another cluster and by one of another name. */
  sealedElsewhere(seed: Uint8Array): Promise<readonly Encrypted[]>;
  /** Status is asked of the service anew at the next call, as after its period. */
  expire(): void;
  close(): Promise<void>;
}

/** Another cluster, and a provider of another name in yet another one. */
export const ELSEWHERE = [
  ['c2', 'twofold'],
  ['c3', 'other'],
] as const;

export interface FormOptions {
  readonly suite: string;
  /** Beside it, an annotation is in the value. */
  readonly annotated: boolean;
}

const codeOf = (failing: Promise<unknown>): Promise<unknown> =>
  failing.then(
    () => 'no error',
    (error: unknown) => (error as { code?: number }).code,
  );

const INVALID_ARGUMENT = 3;
const FAILED_PRECONDITION = 9;

const flipped = (bytes: Uint8Array, at: number): Uint8Array => {
  const copy = Uint8Array.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
};

export function providesForApiServers(
  title: string,
  { suite, annotated }: FormOptions,
  open: (suite: string) => Promise<Form>,
): void {
  describe(`${title}, ${suite}`, () => {
    let form: Form;
    let plugin: PluginClient;
    const etcd: Etcd = new Map<string, StoredObject>();
    const servers: ApiServer[] = [];

    const startServer = async (now?: () => number): Promise<ApiServer> => {
      const server = new ApiServer(form.socket, etcd, now);
      servers.push(server);
      await server.start();
      return server;
    };
    /** Polls until another key_id is announced. */
    const announced = async (server: ApiServer, before: string | undefined): Promise<void> => {
      const until = performance.now() + 20_000;
      while (server.keyId === before && performance.now() < until) {
        form.expire();
        await server.poll();
      }
      expect(server.keyId).not.toBe(before);
    };

    beforeAll(async () => {
      form = await open(suite);
      plugin = new PluginClient(form.socket);
    }, 60_000);

    afterAll(async () => {
      plugin.close();
      for (const server of servers) server.stop();
      await form.close();
    });

    test('a new cluster starts: Status, one Encrypt of a seed, Secrets', async () => {
      const server = await startServer();
      expect(server.counts).toEqual({ status: 1, encrypt: 1, decrypt: 0 });
      server.put('/registry/secrets/default/a', Buffer.from('first'));
      expect(Buffer.from(await server.get('/registry/secrets/default/a')).toString()).toBe('first');
      const { annotations } = etcd.get('/registry/secrets/default/a') ?? { annotations: {} };
      expect(Object.keys(annotations)).toEqual(annotated ? [NAME.kubernetesAnnotation] : []);
    });

    test('Status is v2, ok, and says the same key_id each time', async () => {
      const answers = await Promise.all(Array.from({ length: 20 }, () => plugin.status()));
      expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
      expect(answers[0]).toMatchObject({ version: 'v2', healthz: 'ok' });
    });

    test('another API server of the cluster reads what the first one wrote, and makes its own seed', async () => {
      const second = await startServer();
      expect(second.counts.encrypt).toBe(1);
      expect(Buffer.from(await second.get('/registry/secrets/default/a')).toString()).toBe('first');
      second.put('/registry/secrets/default/b', Buffer.from('second'));
      const [first] = servers;
      expect(Buffer.from((await first?.get('/registry/secrets/default/b')) ?? '').toString()).toBe(
        'second',
      );
    });

    test('a rotation is announced and taken without a restart; old Secrets stay readable', async () => {
      const [server] = servers;
      if (server === undefined) throw new Error('no server');
      const before = server.keyId;
      await form.rotate();
      await announced(server, before);
      expect(server.health).toBeNull();
      server.put('/registry/secrets/default/c', Buffer.from('third'));
      const ids = ['a', 'c'].map((name) => etcd.get(`/registry/secrets/default/${name}`)?.keyId);
      expect(new Set(ids).size).toBe(2);
      const fresh = await startServer();
      for (const [name, text] of [
        ['a', 'first'],
        ['b', 'second'],
        ['c', 'third'],
      ] as const) {
        const got = await fresh.get(`/registry/secrets/default/${name}`);
        expect(Buffer.from(got).toString()).toBe(text);
      }
      await fresh.migrate();
      expect(new Set([...etcd.values()].map(({ keyId }) => keyId))).toEqual(new Set([fresh.keyId]));
    });

    test('an earlier version that is put back is not announced again', async () => {
      const { keyId } = await plugin.status();
      await form.setPrimary(1);
      form.expire();
      expect((await plugin.status()).keyId).toBe(keyId);
      expect((await plugin.encrypt(randomBytes(32))).keyId).toBe(keyId);
    });

    test('the provider is killed and replaced: reads and writes go on, no key_id changes', async () => {
      const { keyId } = await plugin.status();
      const [server] = servers;
      await form.replace();
      const until = performance.now() + 20_000;
      while ((await server?.poll(), server?.health !== null) && performance.now() < until) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      expect(server?.health).toBeNull();
      expect(server?.keyId).toBe(keyId);
      const fresh = await startServer();
      expect(Buffer.from(await fresh.get('/registry/secrets/default/a')).toString()).toBe('first');
    });

    test('ten equal Decrypts at once all get the seed', async () => {
      const seed = randomBytes(32);
      const value = await plugin.encrypt(seed);
      const opened = await Promise.all(Array.from({ length: 10 }, () => plugin.decrypt(value)));
      for (const each of opened) expect(Buffer.compare(each, seed)).toBe(0);
    });

    test('fields of a newer API server are passed over; those of an older one may be missing', async () => {
      const newer = Buffer.concat([
        integer(100, 7),
        field(101, Buffer.from('what nobody knows yet')),
        // Of 64 and of 32 bits.
        Buffer.from([0xb1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8, 0xbd, 0x06, 1, 2, 3, 4]),
      ]);
      expect((await plugin.raw('Status', newer)).toString('latin1')).toContain('ok');
      const seed = randomBytes(32);
      const uid = field(2, Buffer.from(randomUUID()));
      const asked = Buffer.concat([newer, field(1, seed), uid]);
      expect((await plugin.raw('Encrypt', asked)).length).toBeGreaterThan(64);
      const value = await plugin.encrypt(seed);
      const annotations = Object.entries(value.annotations).map(([name, bytes]) =>
        field(4, Buffer.concat([field(1, Buffer.from(name)), field(2, bytes)])),
      );
      const parts = [field(1, value.ciphertext), uid, field(3, Buffer.from(value.keyId))];
      const opened = await plugin.raw('Decrypt', Buffer.concat([...parts, ...annotations, newer]));
      expect(opened).toEqual(field(1, seed));
      const without = Buffer.concat([...parts.slice(0, 2), ...annotations]);
      expect(await codeOf(plugin.raw('Decrypt', without))).toBe(INVALID_ARGUMENT);
      const torn = Buffer.concat([...parts, Buffer.from([0x0a, 0xff])]);
      // gRPC's own: INTERNAL for a message that cannot be read.
      expect(await codeOf(plugin.raw('Decrypt', torn))).toBe(13);
    });

    test('a value of another cluster or provider is not opened', async () => {
      const foreign = await form.sealedElsewhere(randomBytes(32));
      expect(foreign.length).toBeGreaterThan(0);
      for (const each of foreign) {
        expect(await codeOf(plugin.decrypt(each))).toBe(INVALID_ARGUMENT);
      }
    });

    describe('what is refused', () => {
      let seed: Uint8Array;
      let value: Encrypted;
      let other: Encrypted;
      const refused = async (changed: Partial<Encrypted>, code: number = INVALID_ARGUMENT) => {
        expect(await codeOf(plugin.decrypt({ ...value, ...changed }))).toBe(code);
      };

      beforeAll(async () => {
        seed = randomBytes(32);
        value = await plugin.encrypt(seed);
        other = await plugin.encrypt(randomBytes(32));
      });

      test('an empty uid', async () => {
        expect(await codeOf(plugin.decrypt(value, ''))).toBe(INVALID_ARGUMENT);
        expect(await codeOf(plugin.encrypt(seed, ''))).toBe(INVALID_ARGUMENT);
      });

      test('a key_id that is empty, of another version, another key, or nothing', async () => {
        for (const keyId of ['', 'x', `${value.keyId}A`, 'tfk1.AAAA', 'k'.repeat(2_000)]) {
          await refused({ keyId });
        }
        const reference = Buffer.from(value.keyId.slice(5), 'base64url');
        reference[19] = (reference[19] ?? 0) ^ 1;
        await refused({ keyId: `tfk1.${reference.toString('base64url')}` });
        reference[0] = (reference[0] ?? 0) ^ 1;
        await refused({ keyId: `tfk1.${reference.toString('base64url')}` });
      });

      test('values over the limits, and annotations that are not ours', async () => {
        await refused({ ciphertext: new Uint8Array(0) });
        await refused({ ciphertext: new Uint8Array(1_025) });
        await refused({
          annotations: { ...value.annotations, 'big.example': new Uint8Array(32_768) },
        });
        await refused({ annotations: { ...value.annotations, 'extra.example': Uint8Array.of(1) } });
        await refused({ annotations: { ...value.annotations, NotADomain: Uint8Array.of(1) } });
        expect(await codeOf(plugin.encrypt(new Uint8Array(1_009)))).toBe(INVALID_ARGUMENT);
      });

      test('a ciphertext or annotation of another seed, and a missing annotation', async () => {
        if (annotated) {
          await refused({ annotations: other.annotations });
          await refused({ annotations: {} });
        } else {
          await refused({ annotations: { [NAME.kubernetesAnnotation]: Uint8Array.of(1) } });
        }
        await refused({ ciphertext: flipped(value.ciphertext, value.ciphertext.length - 1) });
      });

      test('a thousand altered requests for one value, while the right one is answered', async () => {
        const part = annotated ? value.annotations[NAME.kubernetesAnnotation] : value.ciphertext;
        if (part === undefined) throw new Error('nothing to alter');
        const altered = Array.from({ length: 1_000 }, (_, n) => {
          const bytes = flipped(part, (n * 7) % part.length);
          const changed = annotated
            ? { annotations: { [NAME.kubernetesAnnotation]: bytes } }
            : { ciphertext: bytes };
          return { ...value, ...changed };
        });
        const codes = new Set<unknown>();
        // Ten at once, as after a restart; client, agent and service share one process here.
        for (let at = 0; at < altered.length; at += 10) {
          const some = altered.slice(at, at + 10);
          const [right, ...wrong] = await Promise.all([
            plugin.decrypt(value),
            ...some.map((each) => codeOf(plugin.decrypt(each))),
          ]);
          expect(Buffer.compare(right, seed)).toBe(0);
          for (const code of wrong) codes.add(code);
        }
        // FAILED_PRECONDITION: of bytes that name another key or version.
        for (const code of codes) expect([INVALID_ARGUMENT, FAILED_PRECONDITION]).toContain(code);
      }, 60_000);
    });

    test('a suspended key serves nothing, Status says what to do, and writes stop', async () => {
      let past = 0;
      const server = await startServer(() => performance.now() + past);
      const value = await plugin.encrypt(randomBytes(32));
      await form.suspend();
      form.expire();
      expect(await codeOf(plugin.decrypt(value))).toBe(FAILED_PRECONDITION);
      expect(await codeOf(plugin.encrypt(randomBytes(32)))).toBe(FAILED_PRECONDITION);
      const details = expect.stringMatching(/^version_not_usable: .*Resume the key/su) as unknown;
      const refusal = { code: FAILED_PRECONDITION, details };
      await expect(plugin.status()).rejects.toMatchObject(refusal);
      for (let minute = 0; minute < 4; minute += 1) {
        expect(server.writes).toBe(minute < 3);
        past += 60_001;
        form.expire();
        await server.poll();
      }
      expect(server.health).toContain('version_not_usable');
      await form.resume();
      form.expire();
      await server.poll();
      expect([server.health, server.writes]).toEqual([null, true]);
    });
  });
}
