/**
 * From what a cluster had before to Twofold, on a real kube-apiserver: unsealed Secrets and those of a key in
 * a file, written anew under the provider, and read when nothing else is configured any more.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { parse, stringify } from 'yaml';
import { PROJECT } from '../deploy/image.ts';
import type { ApiServer } from './api-server.ts';
import { Cluster, ENDS_MS, STARTS_MS } from './cluster.ts';
import type { Etcd } from './etcd.ts';
import { InServer } from './provider.ts';
import { WITHOUT, kubeTools } from './tools.ts';
import type { KubeTools } from './tools.ts';

const tools = kubeTools();

type Providers = readonly Readonly<Record<string, unknown>>[];
interface Configuration {
  readonly resources: readonly [{ readonly resources: readonly string[]; providers: Providers }];
}

/** The file of deploy/kubernetes, with other providers. */
const configured = (change: (own: Providers) => Providers): string => {
  const path = join(PROJECT, 'deploy/kubernetes/encryption-configuration.yaml');
  const read = parse(readFileSync(path, 'utf8')) as Configuration;
  const [rule] = read.resources;
  rule.providers = change(rule.providers);
  return stringify(read);
};

const FORMER: readonly (readonly [string, Providers[number], string])[] = [
  ['identity', { identity: {} }, 'k8s\0'],
  ...['aescbc', 'aesgcm', 'secretbox'].map((name): [string, Providers[number], string] => [
    name,
    { [name]: { keys: [{ name: 'one', secret: Buffer.alloc(32, 7).toString('base64') }] } },
    `k8s:enc:${name}:v1:one:`,
  ]),
];

const suite = (programs: KubeTools) => {
  let cluster: Cluster<InServer>;
  let etcd: Etcd;
  let provider: InServer;
  let kube: ApiServer;

  beforeAll(async () => {
    cluster = await Cluster.start(programs, {
      beside: (folder) => new InServer(folder, 'A256GCM'),
      encryption: () => configured(() => [{ identity: {} }]),
    });
    ({ etcd, kube, beside: provider } = cluster);
  }, STARTS_MS);
  afterAll(() => cluster.destroy(), ENDS_MS);

  const head = async (name: string, length: number): Promise<string> =>
    (await etcd.get(`/registry/secrets/default/${name}`)).subarray(0, length).toString('latin1');
  /** The provider alone, at the test's socket. */
  const ours = (own: Providers): Providers =>
    own.flatMap((one) =>
      'kms' in one
        ? [{ kms: { ...(one['kms'] as object), endpoint: `unix://${provider.socket}` } }]
        : [],
    );

  it.each(FORMER)(
    'from %s: reads both, writes anew, and reads all when nothing else is left',
    async (name, former, prefix) => {
      // Earlier rows left Secrets under the provider: one that cannot be read keeps a server from being ready.
      await kube.restartWith(configured((own) => [former, ...ours(own), { identity: {} }]));
      const names = [`${name}-a`, `${name}-b`];
      for (const one of names) {
        expect(await kube.putSecret(one, `of ${one}`)).toMatchObject({ status: 201 });
        expect(await head(one, prefix.length)).toBe(prefix);
      }
      await kube.restartWith(configured((own) => [...ours(own), former, { identity: {} }]));
      for (const one of names) expect(await kube.secret(one)).toBe(`of ${one}`);
      // kubectl get secrets --all-namespaces -o json | kubectl replace -f -
      for (const one of names) expect(await kube.touchSecret(one)).toMatchObject({ status: 200 });
      const stored = await etcd.below('/registry/secrets/');
      for (const value of stored.values()) {
        expect(value.subarray(0, 23).toString('latin1')).toBe('k8s:enc:kms:v2:twofold:');
      }
      await kube.restartWith(configured(ours));
      for (const one of names) expect(await kube.secret(one)).toBe(`of ${one}`);
    },
    120_000,
  );
};

if (tools === undefined) {
  it('a real kube-apiserver', () => console.warn(WITHOUT));
} else {
  describe('a cluster that comes to Twofold', () => suite(tools));
}
