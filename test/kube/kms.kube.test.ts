/**
 * A real kube-apiserver and etcd over the KMS v2 provider: what etcd holds, restarts, rotation without a
 * restart, the provider away and back, and altered values.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ApiServer } from './api-server.ts';
import { Cluster, ENDS_MS, STARTS_MS } from './cluster.ts';
import { fieldOf, formatStored, keyIdOf, parseStored, withField } from './encrypted-object.ts';
import type { Etcd } from './etcd.ts';
import { untilHolds } from './program.ts';
import { AgentBeside, InServer } from './provider.ts';
import type { Provider } from './provider.ts';
import { WITHOUT, kubeTools } from './tools.ts';
import type { KubeTools } from './tools.ts';

const tools = kubeTools();

/** No `identity`: what is not sealed is not read either. */
const encryptionOf = (socket: string): string => `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - kms: { apiVersion: v2, name: twofold, endpoint: 'unix://${socket}', timeout: 3s }
`;

const etcdKey = (name: string): string => `/registry/secrets/default/${name}`;
const SECRET = 'what nobody may read in etcd';
/** Kubernetes asks for Status once a minute, or every 20 s while its readiness is asked for. */
const NEXT_STATUS_MS = 90_000;

export interface Form {
  readonly name: string;
  readonly suite: string;
  readonly make: (folder: string, suite: string) => Provider;
}

const suite = (programs: KubeTools, form: Form) => {
  let cluster: Cluster<Provider>;
  let etcd: Etcd;
  let kube: ApiServer;
  let provider: Provider;

  beforeAll(async () => {
    cluster = await Cluster.start(programs, {
      beside: (folder) => form.make(folder, form.suite),
      encryption: ({ socket }) => encryptionOf(socket),
    });
    ({ etcd, kube, beside: provider } = cluster);
  }, STARTS_MS);
  afterAll(() => cluster.destroy(), ENDS_MS);

  const raw = (name: string): Promise<Buffer> => etcd.get(etcdKey(name));
  const names = ['one', 'two', 'three'];

  it('has every Secret in etcd sealed, and none of its text', async () => {
    for (const name of names) {
      expect(await kube.putSecret(name, `${SECRET}: ${name}`)).toMatchObject({ status: 201 });
    }
    for (const [key, value] of await etcd.below('/registry/secrets/')) {
      expect([key, value.subarray(0, 23).toString('latin1')]).toEqual([
        key,
        'k8s:enc:kms:v2:twofold:',
      ]);
      expect(value.includes(SECRET)).toBe(false);
      expect(value.includes(Buffer.from(SECRET).toString('base64').slice(0, 32))).toBe(false);
    }
    const one = await raw('one');
    // Limits of the protocol: a hybrid encapsulation goes into an annotation.
    expect(fieldOf(parseStored(one), 'encryptedDekSource').length).toBeLessThanOrEqual(1_024);
    const annotated = parseStored(one).fields.some(({ number }) => number === 4);
    expect(annotated).toBe(form.suite !== 'A256GCM');
    expect(await kube.secret('one')).toBe(`${SECRET}: one`);
    console.info(
      `${form.name}, ${form.suite}: a Secret of ${SECRET.length} bytes has ${one.length} in etcd`,
    );
  }, 60_000);

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'is read after the API server ended by %s',
    async (signal) => {
      await kube.stop(signal);
      const from = performance.now();
      await kube.start();
      console.info(
        `${form.name}, ${form.suite}: ready after ${Math.round(performance.now() - from)} ms`,
      );
      for (const name of names) expect(await kube.secret(name)).toBe(`${SECRET}: ${name}`);
    },
    120_000,
  );

  it('is sealed under a new version without a restart, while no write fails', async () => {
    const old = keyIdOf(await raw('one'));
    await provider.rotate();
    let [writes, newest] = [0, old];
    await untilHolds(
      'a new key_id in etcd',
      async () => {
        const name = `during-${writes}`;
        const { status, text } = await kube.putSecret(name, SECRET);
        if (status !== 201) throw new Error(text);
        writes += 1;
        newest = keyIdOf(await raw(name));
        await kube.get('/readyz');
        await sleep(900);
        return newest !== old;
      },
      NEXT_STATUS_MS,
    );
    // What was stored stays as it is, and readable, until it is written anew.
    expect(keyIdOf(await raw('one'))).toBe(old);
    expect(await kube.secret('one')).toBe(`${SECRET}: one`);
    expect(await kube.touchSecret('one')).toMatchObject({ status: 200 });
    expect(keyIdOf(await raw('one'))).toBe(newest);
    expect(keyIdOf(await raw('two'))).toBe(old);
    await kube.stop();
    await kube.start();
    for (const name of names) expect(await kube.secret(name)).toBe(`${SECRET}: ${name}`);
    expect(await kube.putSecret('after', SECRET)).toMatchObject({ status: 201 });
    expect(keyIdOf(await raw('after'))).toBe(newest);
  }, 240_000);

  it('is read and written when the provider has just gone, is not ready within a minute, and is again once it is back', async () => {
    await provider.kill();
    expect(await kube.secret('one')).toBe(`${SECRET}: one`);
    expect(await kube.putSecret('while-away', SECRET)).toMatchObject({ status: 201 });
    const ready = async () => (await kube.get('/readyz')).status;
    await untilHolds('not ready', async () => (await ready()) !== 200, 60_000);
    expect(await kube.get('/livez')).toMatchObject({ status: 200 });
    await provider.start();
    await untilHolds('ready again', async () => (await ready()) === 200, 120_000);
    expect(await kube.secret('while-away')).toBe(SECRET);
  }, 300_000);

  it('comes up when the provider comes after the API server', async () => {
    await kube.stop();
    await provider.kill();
    await kube.start(false);
    await sleep(8_000);
    expect(kube.program.running).toBe(true);
    const early = await kube.get('/readyz').catch(() => undefined);
    expect(early?.status).not.toBe(200);
    await provider.start();
    await kube.untilReady(180_000);
    for (const name of names) expect(await kube.secret(name)).toBe(`${SECRET}: ${name}`);
  }, 300_000);

  const flipped = (value: Buffer): Buffer => {
    const at = value.length - 3;
    value.writeUInt8(value.readUInt8(at) ^ 1, at);
    return value;
  };
  const altered: readonly (readonly [string, (one: Buffer, two: Buffer) => Buffer])[] = [
    ['the sealed data', (one) => withField(one, 'encryptedData', flipped)],
    ['the wrapped seed', (one) => withField(one, 'encryptedDekSource', flipped)],
    ['the key_id', (one) => withField(one, 'keyId', flipped)],
    ['the whole value, by that of another Secret', (_one, two) => two],
    ['the name of the provider', (one) => formatStored({ ...parseStored(one), provider: 'other' })],
    ['everything, by plaintext', () => Buffer.from('k8s\0planted')],
    ...(form.suite === 'A256GCM'
      ? []
      : ([
          ['the annotation', (one: Buffer) => withField(one, 'annotations', flipped)],
          [
            'the annotation, by none',
            (one: Buffer) => {
              const stored = parseStored(one);
              return formatStored({
                ...stored,
                fields: stored.fields.filter(({ number }) => number !== 4),
              });
            },
          ],
        ] as const)),
  ];

  it.each(altered)(
    'refuses a Secret after someone altered in etcd %s',
    async (_what, alter) => {
      const [one, two] = [await raw('one'), await raw('two')];
      await etcd.put(etcdKey('one'), alter(one, two));
      try {
        // A change in etcd is seen by a read that is not from the watch cache.
        const { status, text } = await kube.get(
          '/api/v1/namespaces/default/secrets/one?resourceVersion=',
        );
        expect([status, text]).toEqual([500, expect.not.stringContaining(SECRET)]);
      } finally {
        await etcd.put(etcdKey('one'), one);
      }
      expect(await kube.secret('one')).toBe(`${SECRET}: one`);
    },
    60_000,
  );
};

const FORMS: readonly Form[] = ['A256GCM', 'MLKEM768-P256'].flatMap((chosen) => [
  {
    name: 'inside the service',
    suite: chosen,
    make: (folder: string, id: string) => new InServer(folder, id),
  },
  {
    name: 'of the agent',
    suite: chosen,
    make: (folder: string, id: string) => new AgentBeside(folder, id),
  },
]);

if (tools === undefined) {
  it('a real kube-apiserver', () => console.warn(WITHOUT));
} else {
  describe.each(FORMS)('a cluster sealed by the provider $name, $suite', (form) =>
    suite(tools, form),
  );
}
