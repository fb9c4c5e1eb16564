/**
 * The guide for operators: its commands that need no cluster are run, in its order and in one folder; the others
 * are listed with the reason. Its policy lets an agent of one cluster do what it needs, and another's nothing.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { X509Certificate, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { parseEncryptionConfiguration } from '../../src/kubernetes/encryption-configuration.ts';
import { startAgent } from '../../src/main/kms-plugin/agent.ts';
import { parseFlags } from '../../src/cli/arguments.ts';
import { providerOf } from '../../src/main/kms-plugin/flags.ts';
import { SERVE_FLAGS } from '../../src/main/kms-plugin/serve.ts';
import { lookAtService } from '../../src/main/kms-plugin/service-checks.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { makeCertificate } from '../config/certificate.ts';
import { openServiceOver } from '../http/service.ts';
import type { Service } from '../http/service.ts';
import { aRun, openWorld } from '../keyring/world.ts';
import type { World } from '../keyring/world.ts';
import { SILENT_LOG } from './agent-form.ts';
import { PluginClient } from './apiserver.ts';

const ROOT = join(import.meta.dirname, '../..');
const GUIDE = readFileSync(join(ROOT, 'docs/kubernetes.md'), 'utf8');

interface Block {
  readonly language: string;
  readonly lines: readonly string[];
}
const BLOCKS: readonly Block[] = [...GUIDE.matchAll(/^ *```(\S[^\n]*)\n([^]*?)^ *```$/gmu)].map(
  ([, language = '', text = '']) => ({
    language,
    lines: text
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== ''),
  }),
);
const of = (language: string) => BLOCKS.filter((block) => block.language === language);

/** Why a command of the guide is not run here; all but the last are run by `npm run test:kube` or the agent's tests. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/^kubectl /u, 'needs an API server'],
  [/^etcdctl /u, 'needs the etcd of a cluster'],
  [/^(?:curl|jq) /u, 'needs a service that serves other hosts'],
  [
    /^twofold kms-plugin (?:register|unregister|serve|verify-rotation .*--retire)/u,
    'needs a service; agent-zones.slow.test.ts runs it',
  ],
  [/^twofold kms-plugin doctor/u, 'needs a socket or a value; agent-zones.slow.test.ts runs it'],
];

const AESCBC = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - aescbc: { keys: [{ name: key1, secret: ${randomBytes(32).toString('base64')} }] }
      - identity: {}
`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kms-guide-'));
  mkdirSync(join(folder, 'bin'));
  const shim = `#!/bin/sh\nexec sh ${join(ROOT, 'scripts/launch')} "$@"\n`;
  writeFileSync(join(folder, 'bin/twofold'), shim, { mode: 0o755 });
  writeFileSync(join(folder, 'enc.yaml'), AESCBC, { mode: 0o600 });
  const snapshot = readFileSync(join(import.meta.dirname, 'etcd-files/compacted.db.gz'));
  writeFileSync(join(folder, 'snapshot.db'), gunzipSync(snapshot));
});
afterAll(() => rmSync(folder, { recursive: true }));

test('its commands that need no cluster run as they stand', () => {
  const script = of('sh run').flatMap(({ lines }) => lines);
  const output = execFileSync('/bin/sh', ['-euc', `umask 077\n${script.join('\n')}`], {
    cwd: folder,
    env: { ...COMMAND_ENVIRONMENT, PATH: `${join(folder, 'bin')}:${process.env['PATH'] ?? ''}` },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  expect(output).toContain('client.pem: OK');
  expect(output).toContain('aescbc key1');
  expect(statSync(join(folder, 'client.key')).mode & 0o777).toBe(0o600);
  const providersOf = (name: string) =>
    parseEncryptionConfiguration(readFileSync(join(folder, name), 'utf8')).entries.map(
      ({ providers }) => providers.map(({ kind }) => kind),
    );
  expect(providersOf('step-1.yaml')).toEqual([['aescbc', 'kms', 'identity']]);
  expect(providersOf('step-2.yaml')).toEqual([['kms', 'aescbc', 'identity']]);
  expect(providersOf('step-5.yaml')).toEqual([['kms']]);
}, 30_000);

test('each of the others is known, and says why it is not run', () => {
  const others = of('sh').flatMap(({ lines }) => lines);
  const told = others.map((line) => {
    const [, reason] = REASONS.find(([pattern]) => pattern.test(line)) ?? [];
    return { line, reason };
  });
  for (const { line, reason } of told) expect([line, reason]).not.toContain(undefined);
  process.stdout.write(
    told.map(({ line, reason }) => `not run (${String(reason)}): ${line.slice(0, 100)}\n`).join(''),
  );
  // Their flags are those that there are.
  const serving = others.find((line) => line.startsWith('twofold kms-plugin serve')) ?? '';
  const argv = serving.split(' ').slice(3);
  const flags = parseFlags(argv, SERVE_FLAGS);
  expect(providerOf(flags)).toMatchObject({ cluster: 'cluster-a', key: 'cluster-a' });
});

describe('its policy and certificates', () => {
  let world: World;
  let service: Service;
  const identity = makeCertificate();
  const file = (name: string) => join(folder, name);

  /** As the guide's, of another name. */
  const certificate = (name: string, uri: string) => {
    const [, request, extension, sign] = of('sh run')[0]?.lines ?? [];
    const script = [request, extension, sign]
      .join('\n')
      .replaceAll('client.', `${name}.`)
      .replace(/spiffe:\/\/\S+?(?=\\n)/u, uri);
    execFileSync('/bin/sh', ['-euc', script], { cwd: folder, stdio: 'ignore' });
    chmodSync(file(`${name}.key`), 0o600);
    return { cert: file(`${name}.pem`), key: file(`${name}.key`) };
  };
  const providerFor = (cluster: string, files: { cert: string; key: string }) => ({
    servers: [new URL(`https://127.0.0.1:${String(service.port)}`)],
    files: { certificate: files, ca: file('service-ca.pem') },
    namespace: 'default',
    key: 'cluster-a',
    cluster,
    provider: 'twofold',
  });

  beforeAll(async () => {
    const [settings] = of('json').map(
      ({ lines }) =>
        JSON.parse(lines.join('\n')) as {
          access: { certificates: { issuer: string; subject: 'spiffe'; trustDomain: string }[] };
        },
    );
    const [issuer] = settings?.access.certificates ?? [];
    if (issuer === undefined) throw new Error('the guide has no issuer');
    const { subject, trustDomain } = issuer;
    const cedar = of('cedar')[0]?.lines.join('\n') ?? '';
    const policies = PolicySet.load(SCHEMA, `@id("cluster-a")\n${cedar}`);
    world = await openWorld();
    await world.create({ name: 'cluster-a', suite: 'A256GCM' });
    writeFileSync(file('service-ca.pem'), identity.certificate);
    const tls = { cert: identity.certificate, key: identity.key, clients: 'request' } as const;
    service = await openServiceOver(world, {
      certificates: [
        {
          issuer: issuer.issuer,
          subject,
          trustDomain,
          authorities: [new X509Certificate(readFileSync(file('ca.pem')))],
          roleMappings: [],
        },
      ],
      options: { http: { host: '127.0.0.1', port: 0, tls } },
      replace: () => ({ authorizer: PolicyAuthorizer.of({ epoch: world.epoch, policies }) }),
    });
    const labels = {
      'kubernetes/cluster-a': 'provider=twofold announced=1',
      'kubernetes/cluster-b': 'provider=twofold announced=1',
    };
    const grant = world.grant('keys.update', 'cluster-a');
    await world.keyring.manage.update(grant, { labels }, aRun());
  }, 30_000);
  afterAll(() => service.stop());

  test('an agent of the cluster works, and is bound to it', async () => {
    const files = certificate('a', 'spiffe://control-plane.example.com/cluster-a/node-1');
    const findings: [string, string][] = [];
    await lookAtService(providerFor('cluster-a', files), async (what, work) => {
      findings.push([what.split(' at ')[0] ?? '', await work()]);
    });
    expect(findings).toContainEqual(['policy', 'wraps and unwraps for this cluster alone']);
  });

  test("another cluster's agent is denied, whatever cluster it says it is of", async () => {
    const files = certificate('b', 'spiffe://control-plane.example.com/cluster-b/node-1');
    for (const cluster of ['cluster-a', 'cluster-b']) {
      const socket = file(`${cluster}.sock`);
      const provider = providerFor(cluster, files);
      const own = { socket, announced: null, group: null, metricsPort: null, log: SILENT_LOG };
      const agent = await startAgent({ ...provider, ...own });
      await agent.served;
      const client = new PluginClient(socket);
      await expect(client.status()).rejects.toMatchObject({ code: 7 });
      client.close();
      await agent.stop();
    }
  });
});
