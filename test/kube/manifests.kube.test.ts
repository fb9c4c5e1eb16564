/**
 * The chart and deploy/kubernetes before a real kube-apiserver: every object is taken as it stands
 * (strict fields, admission, the pod security standard `restricted`), and the pod without a Secret gets its key
 * with a token that the API server issued.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { makeCertificate } from '../config/certificate.ts';
import { EXAMPLES, Helm, example, kubeTool } from '../deploy/helm.ts';
import { PROJECT } from '../deploy/image.ts';
import { readManifests } from '../deploy/manifests.ts';
import type { Manifest } from '../deploy/manifests.ts';
import { podsOf } from '../deploy/pods.ts';
import { TestService } from '../e2e/service.ts';
import { ISSUER } from './api-server.ts';
import type { ApiServer } from './api-server.ts';
import { Cluster, ENDS_MS, STARTS_MS, alone } from './cluster.ts';
import type { Beside } from './cluster.ts';
import { WITHOUT, kubeTools } from './tools.ts';
import type { KubeTools } from './tools.ts';

const tools = kubeTools();
const helm = kubeTool('helm');

const PLAIN = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources: [{ resources: [secrets], providers: [{ identity: {} }] }]
`;

const kubernetesManifests = (name: string): Manifest[] =>
  readManifests(readFileSync(join(PROJECT, 'deploy/kubernetes', name), 'utf8'));

const suite = (programs: KubeTools) => {
  let cluster: Cluster<Beside>;
  let folder: string;
  let kube: ApiServer;
  const at = (name: string) => join(folder, name);

  beforeAll(async () => {
    cluster = await Cluster.start(programs, { beside: alone, encryption: () => PLAIN });
    ({ folder, kube } = cluster);
    for (const name of ['kms', 'inference']) {
      const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
      const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
      expect(await kube.call('POST', '/api/v1/namespaces', namespace)).toMatchObject({
        status: 201,
      });
    }
  }, STARTS_MS);
  afterAll(() => cluster.destroy(), ENDS_MS);

  interface Resources {
    readonly resources: readonly {
      readonly name: string;
      readonly kind: string;
      readonly namespaced: boolean;
    }[];
  }
  const groupOf = (apiVersion: string): string =>
    apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;

  /** What the API server says to the object, without keeping it. */
  const dryRun = async (manifest: Manifest): Promise<string> => {
    const group = groupOf(manifest.apiVersion);
    const listed = await kube.get(group);
    // No operator's resources here: those are checked by their models alone.
    if (listed.status === 404) return 'no such group';
    const { resources } = JSON.parse(listed.text) as Resources;
    const found = resources.find(({ kind, name }) => kind === manifest.kind && !name.includes('/'));
    if (found === undefined) return 'no such kind';
    const within = found.namespaced ? `/namespaces/${manifest.metadata.namespace ?? 'kms'}` : '';
    const query = 'dryRun=All&fieldValidation=Strict';
    const { status, text } = await kube.call(
      'POST',
      `${group}${within}/${found.name}?${query}`,
      manifest,
    );
    const there = status === 409 && found.name === 'namespaces';
    return status === 201 || there ? 'taken' : text;
  };

  const asPods = (manifests: readonly Manifest[], namespace: string): Manifest[] =>
    podsOf(manifests).map(({ name, spec }) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace },
      // Claims of a StatefulSet become volumes of its pods.
      spec: Object.assign({}, spec, {
        volumes: [
          ...(spec.volumes ?? []),
          ...['data', 'tokens'].map((one) => ({ name: one, emptyDir: {} })),
        ].filter((one, index, all) => all.findIndex((other) => other.name === one.name) === index),
      }),
    }));

  if (helm === undefined) {
    it('does not see the chart here', () => console.warn('Not run here: helm is not there.'));
  } else {
    it.each(EXAMPLES)(
      'takes the chart with examples/%s.yaml, strictly',
      async (name) => {
        const manifests = new Helm(helm).manifests('-f', example(name));
        for (const manifest of [...manifests, ...asPods(manifests, 'kms')]) {
          const custom = ['ServiceMonitor', 'Cluster'].includes(manifest.kind);
          expect([manifest.kind, manifest.metadata.name, await dryRun(manifest)]).toEqual([
            manifest.kind,
            manifest.metadata.name,
            custom ? 'no such group' : 'taken',
          ]);
        }
      },
      60_000,
    );
  }

  it.each(['inference/key-from-secret.yaml', 'inference/no-secret.yaml'])(
    'takes deploy/kubernetes/%s, strictly and under `restricted`',
    async (name) => {
      const manifests = kubernetesManifests(name);
      for (const manifest of [...manifests, ...asPods(manifests, 'inference')]) {
        expect([manifest.kind, await dryRun(manifest)]).toEqual([manifest.kind, 'taken']);
      }
    },
    60_000,
  );

  it('refuses a planted typo', async () => {
    const [budget] = readManifests(
      '{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: x}, spec: {maxUnavailabel: 1}}',
    );
    expect(await dryRun(budget as Manifest)).toMatch(/unknown field \\"spec\.maxUnavailabel\\"/u);
  });

  describe('the pod without a Secret', () => {
    let service: TestService;
    const KEY = Buffer.from('0123456789abcdef0123456789abcdef');

    beforeAll(async () => {
      const { certificate, key } = makeCertificate();
      writeFileSync(at('ca.pem'), certificate);
      writeFileSync(at('server.key'), key, { mode: 0o600 });
      // The issuer's keys in a file, as operators pin them.
      const { text } = await kube.get('/openid/v1/jwks');
      writeFileSync(at('jwks.json'), text);
      const issuer = {
        issuer: ISSUER,
        audience: 'twofold',
        jwksFile: at('jwks.json'),
        algorithms: ['RS256'],
      };
      service = await TestService.start({
        environment: {
          NODE_EXTRA_CA_CERTS: at('ca.pem'),
          TWOFOLD_HTTP_TLS_CERT_FILE: at('ca.pem'),
          TWOFOLD_HTTP_TLS_KEY_FILE: at('server.key'),
          TWOFOLD_ISSUERS: JSON.stringify([{ ...issuer, maxLifetime: 3_600 }]),
        },
      });
    }, 120_000);
    afterAll(() => service.destroy(), 60_000);

    const accountToken = async (name: string, audience: string): Promise<string> => {
      const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } };
      await kube.call('POST', '/api/v1/namespaces/inference/serviceaccounts', account);
      const path = `/api/v1/namespaces/inference/serviceaccounts/${name}/token`;
      const spec = { audiences: [audience], expirationSeconds: 600 };
      const { status, text } = await kube.call('POST', path, {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec,
      });
      expect([status, text]).toEqual([201, expect.any(String)]);
      return (JSON.parse(text) as { status: { token: string } }).status.token;
    };
    /** With Node's own TLS: the certificate is the test's. */
    const admin = async (
      method: string,
      path: string,
      body: object,
    ): Promise<Record<string, unknown>> => {
      const token = await service.token('admin');
      const flags = ['-sS', '--fail-with-body', '--cacert', at('ca.pem'), '-X', method, '-H', '@-'];
      const json = ['-H', 'Content-Type: application/json', '--data', JSON.stringify(body)];
      const out = execFileSync('curl', [...flags, ...json, `${service.url}${path}`], {
        input: `Authorization: Bearer ${token}\n`,
        encoding: 'utf8',
      });
      return JSON.parse(out) as Record<string, unknown>;
    };
    /** The manifest's own script, with its folders in the test's. */
    const unwrap = (token: string) => {
      const config = kubernetesManifests('inference/no-secret.yaml').find(
        ({ kind }) => kind === 'ConfigMap',
      );
      const pod = mkdtempSync(at('pod-'));
      for (const name of ['identity', 'model']) mkdirSync(join(pod, name));
      writeFileSync(join(pod, 'identity/token'), token, { mode: 0o400 });
      const script = (config?.data?.['unwrap'] ?? '')
        .replaceAll('/run/identity/', `${pod}/identity/`)
        .replaceAll('/run/model/', `${pod}/model/`)
        .replaceAll('/etc/model-key/ca.pem', at('ca.pem'))
        .replaceAll('/etc/model-key/', `${folder}/`);
      const run = spawnSync('sh', ['-c', script], {
        encoding: 'utf8',
        env: { PATH: process.env['PATH'], TWOFOLD_SERVICE: service.url, MODEL_KEY: 'model' },
      });
      return { ...run, key: join(pod, 'model/key') };
    };

    it('unwraps with a token that the API server issued for Twofold, and only with that', async () => {
      await admin('POST', '/v1/admin/keys', { name: 'model', suite: 'MLKEM768-P256' });
      const encryptionContext = { model: 'assistant-7b', stage: 'prod' };
      const wrap = { plaintext: KEY.toString('base64'), encryptionContext };
      const { ciphertext } = await admin('POST', '/v1/keys/model/wrap', wrap);
      writeFileSync(at('request.json'), JSON.stringify({ ciphertext, encryptionContext }));
      const right = await accountToken('inference', 'twofold');

      const before = unwrap(right);
      expect([before.status, before.stderr]).toEqual([1, expect.stringMatching(/forbidden/u)]);
      await permit();
      const after = unwrap(right);
      expect([after.status, after.stderr]).toEqual([0, '']);
      expect(readFileSync(after.key)).toEqual(KEY);
      expect(execFileSync('stat', ['-c', '%a', after.key], { encoding: 'utf8' })).toBe('600\n');

      const other = unwrap(await accountToken('other', 'twofold'));
      expect([other.status, other.stderr]).toEqual([1, expect.stringMatching(/forbidden/u)]);
      const apiServers = unwrap(await accountToken('inference', ISSUER));
      expect([apiServers.status, apiServers.stderr]).toEqual([
        1,
        expect.stringMatching(/token_invalid/u),
      ]);
    }, 120_000);

    /** One service account, one operation, one key, one context. */
    const permit = async (): Promise<void> => {
      await admin('PUT', '/v1/admin/policies/inference', { cedar: POLICY });
    };
  });
};

const POLICY = readFileSync(join(PROJECT, 'deploy/kubernetes/inference/policy.cedar'), 'utf8');

if (tools === undefined) {
  it('a real kube-apiserver', () => console.warn(WITHOUT));
} else {
  describe('a real kube-apiserver', () => suite(tools));
}
