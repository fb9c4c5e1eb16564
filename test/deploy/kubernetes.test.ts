/** The manifests of deploy/kubernetes, by the checks that the chart has to pass. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { parse } from 'yaml';
import { SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { one, parseFlags, requireNothingMore } from '../../src/cli/arguments.ts';
import { SETTINGS } from '../../src/config/schema.ts';
import { providerOf } from '../../src/main/kms-plugin/flags.ts';
import { SERVE_FLAGS } from '../../src/main/kms-plugin/serve.ts';
import { PROJECT } from './image.ts';
import { problemsOf, readManifests } from './manifests.ts';
import { containersOf, podsOf } from './pods.ts';
import type { Pod } from './pods.ts';

const FOLDER = join(PROJECT, 'deploy/kubernetes');
const read = (name: string) => readManifests(readFileSync(join(FOLDER, name), 'utf8'));
const podOf = (name: string): Pod => {
  const [pod] = podsOf(read(name));
  if (pod === undefined) throw new Error('a pod');
  return pod;
};

const text = (name: string) => readFileSync(join(FOLDER, name), 'utf8');
const files = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' });
const yaml = files.filter((name) => name.endsWith('.yaml'));
/** Read by kube-apiserver from a file, and no object of its API. */
const CONFIGURATION = 'encryption-configuration.yaml';
const names = yaml.filter((name) => name !== CONFIGURATION);

describe.each(names)('deploy/kubernetes/%s', (name) => {
  it('has nothing that Kubernetes does not know', async () => {
    expect(await problemsOf(read(name))).toEqual([]);
  });

  it('bounds its containers', () => {
    for (const pod of podsOf(read(name))) {
      expect(pod.spec.automountServiceAccountToken).toBe(false);
      for (const { securityContext } of containersOf(pod)) {
        expect(securityContext).toMatchObject({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
      }
    }
  });
});

describe('the guides', () => {
  const guides = ['deploy/kubernetes/README.md', 'docs/kubernetes.md', 'README.md'];
  const others = ['docs/kubernetes-what-does-nothing.md'];
  const guide = (path: string) => readFileSync(join(PROJECT, path), 'utf8');

  it('look at the value of a Secret in etcd, not at its name, which etcdctl prints first', () => {
    const looks = [...guides, ...others].flatMap(
      (path) => guide(path).match(/etcdctl get \/registry\/secrets\/[^\n]*/gu) ?? [],
    );
    expect(looks.length).toBeGreaterThan(2);
    expect(looks.filter((line) => !line.includes('--print-value-only'))).toEqual([]);
  });

  it('name one path of the socket', () => {
    const named = guides.flatMap(
      (path) => guide(path).match(/\/run\/twofold[-a-z]*\/kms\.sock/gu) ?? [],
    );
    expect([...new Set(named)]).toEqual(['/run/twofold-kms/kms.sock']);
  });

  it('make each user whom a unit of theirs runs as', () => {
    const [, user] = /^User=(.*)$/mu.exec(text('twofold-kms-plugin.service')) ?? [];
    expect(guide('deploy/kubernetes/README.md')).toMatch(
      new RegExp(`^ *useradd --system [^\\n]* ${String(user)}$`, 'mu'),
    );
  });
});

describe('the agent', () => {
  const pod = podOf('twofold-kms-plugin.yaml');
  const [container] = pod.spec.containers;
  const unit = text('twofold-kms-plugin.service');
  const argv = container?.args ?? [];
  const [, ...words] = (/^ExecStart=((?:.*\\\n)*.*)$/mu.exec(unit)?.[1] ?? '')
    .replaceAll('\\\n', '')
    .split(/\s+/u);

  it('as a static pod refers to nothing that an API server would have to serve', () => {
    expect(pod.spec).toMatchObject({
      hostNetwork: true,
      dnsPolicy: 'Default',
      priorityClassName: 'system-node-critical',
      securityContext: { runAsNonRoot: true, runAsUser: 10001 },
    });
    expect(pod.spec.serviceAccountName).toBeUndefined();
    expect(pod.spec.imagePullSecrets).toBeUndefined();
    expect(JSON.stringify(pod.spec)).not.toMatch(/secret|configMap|persistentVolume|projected/iu);
    const kinds = (pod.spec.volumes ?? []).map(({ name, ...source }) => [
      name,
      ...Object.keys(source),
    ]);
    expect(kinds).toEqual([
      ['socket', 'hostPath'],
      ['state', 'hostPath'],
      ['files', 'hostPath'],
      ['tmp', 'emptyDir'],
    ]);
    // DirectoryOrCreate would make a folder of root's, in which the agent cannot make a socket.
    for (const { hostPath } of pod.spec.volumes ?? []) {
      if (hostPath !== undefined) expect(hostPath.type).toBe('Directory');
    }
  });

  it('is started by flags that it knows, the same in both forms', () => {
    expect(argv.slice(0, 2)).toEqual(['kms-plugin', 'serve']);
    expect(words).toEqual(argv);
    const flags = parseFlags(argv.slice(2), SERVE_FLAGS);
    requireNothingMore(flags);
    expect(providerOf(flags)).toMatchObject({ key: 'cluster-a', cluster: 'cluster-a' });
    const probe = container?.livenessProbe?.httpGet;
    expect([probe?.host, String(probe?.port), probe?.path]).toEqual([
      '127.0.0.1',
      one(flags, 'metrics-port'),
      '/livez',
    ]);
    const mounted = (container?.volumeMounts ?? []).map(({ mountPath }) => mountPath);
    for (const name of ['socket', 'announced', 'ca', 'cert', 'cert-key']) {
      const path = one(flags, name) ?? '';
      expect(mounted.some((at) => path.startsWith(`${at}/`))).toBe(true);
    }
  });

  it('serves where kube-apiserver looks, in a folder that is made before', () => {
    const { resources } = parse(text(CONFIGURATION)) as {
      readonly resources: readonly { readonly providers: readonly Record<string, unknown>[] }[];
    };
    expect(resources[0]?.providers).toEqual([
      {
        kms: {
          apiVersion: 'v2',
          name: 'twofold',
          endpoint: 'unix:///run/twofold-kms/kms.sock',
          timeout: '3s',
        },
      },
      { identity: {} },
    ]);
    expect(argv).toContain('--socket=/run/twofold-kms/kms.sock');
    expect(text('twofold-kms.tmpfiles.conf')).toMatch(
      /^d \/run\/twofold-kms 0700 10001 10001 -$/mu,
    );
    expect(unit).toMatch(/^RuntimeDirectory=twofold-kms$/mu);
  });

  it('keeps what it announced where a restart of the host leaves it', () => {
    expect(argv).toContain('--announced=/var/lib/twofold-kms/announced.json');
    expect(text('twofold-kms.tmpfiles.conf')).toMatch(
      /^d \/var\/lib\/twofold-kms 0700 10001 10001 -$/mu,
    );
    expect(unit).toMatch(/^StateDirectory=twofold-kms$/mu);
  });

  if (spawnSync('systemd-analyze', ['--version']).status === 0) {
    it('has a unit that is sound for systemd', () => {
      const folder = mkdtempSync(join(tmpdir(), 'twofold-agent-unit-'));
      try {
        const here = join(folder, 'twofold-kms-plugin.service');
        writeFileSync(here, unit.replaceAll('/opt/twofold', PROJECT));
        const verified = spawnSync('systemd-analyze', ['verify', here], { encoding: 'utf8' });
        expect([verified.status, verified.stdout, verified.stderr]).toEqual([0, '', '']);
      } finally {
        rmSync(folder, { recursive: true });
      }
    }, 30_000);
  } else {
    it('is not shown to systemd here', () => {
      console.warn('Not run here: systemd-analyze is not installed.');
    });
  }
});

describe('deploy/kubernetes/README.md', () => {
  const page = text('README.md');

  it('names every file of its folder', () => {
    for (const name of files) {
      if (/\.\w+$/u.test(name) && name !== 'README.md') expect(page).toContain(`(${name})`);
    }
  });

  it('has a drop-in of variables that the service knows', () => {
    const variables = [...page.matchAll(/^Environment=(\w+)=/gmu)].map(([, name]) => name);
    expect(variables).toHaveLength(3);
    const known = SETTINGS.map(({ env }) => env);
    for (const name of variables) expect(known).toContain(name);
  });

  it('has a drop-in that never gives up, as the unit that it is over does', () => {
    const service = readFileSync(join(PROJECT, 'deploy/twofold.service'), 'utf8');
    expect(service).toMatch(/^StartLimitIntervalSec=10min$/mu);
    const [, unit] = /^\[Unit\]\n([^[]*)\[Service\]\nRuntimeDirectory=/mu.exec(page) ?? [];
    expect(unit).toMatch(/^StartLimitIntervalSec=0$/mu);
  });
});

describe('policies', () => {
  it.each(files.filter((name) => name.endsWith('.cedar')))('%s fits the schema', (name) => {
    expect(() => PolicySet.load(SCHEMA, `@id("a")\n${text(name)}`)).not.toThrow();
  });
});

describe('the inference service', () => {
  const secret = podOf('inference/key-from-secret.yaml');
  const none = podOf('inference/no-secret.yaml');

  it('reads its key from the same file in both forms, and from no variable', () => {
    for (const { spec } of [secret, none]) {
      const [own] = spec.containers;
      expect(own?.env).toBeUndefined();
      expect(own?.args?.join(' ')).toContain('--model-key-file /run/model/key');
      expect(own?.volumeMounts).toContainEqual({
        name: 'key',
        mountPath: '/run/model',
        readOnly: true,
      });
    }
  });

  it('without a Secret has a token for Twofold alone, in the step that unwraps and nowhere else', () => {
    expect(JSON.stringify(none.spec)).not.toMatch(/secret(?:Name|KeyRef|Ref)/u);
    const identity = none.spec.volumes?.find(({ name }) => name === 'identity');
    expect(identity?.projected?.sources).toEqual([
      { serviceAccountToken: { audience: 'twofold', expirationSeconds: 600, path: 'token' } },
    ]);
    const holders = containersOf(none).filter(({ volumeMounts = [] }) =>
      volumeMounts.some(({ name }) => name === 'identity'),
    );
    expect(holders.map(({ name }) => name)).toEqual(['unwrap']);
    expect(none.spec.volumes?.find(({ name }) => name === 'key')?.emptyDir?.medium).toBe('Memory');
  });
});

describe('docs/kubernetes-what-does-nothing.md', () => {
  const page = readFileSync(join(PROJECT, 'docs/kubernetes-what-does-nothing.md'), 'utf8');

  it('names what nothing reads, and our manifests have none of it', () => {
    const shown = ['encryption.cloud.google.com/key', 'PQC_KEY_MANAGEMENT', 'FALLBACK_CRYPTO'];
    for (const name of shown) {
      expect(page).toContain(name);
      for (const file of names)
        expect(readFileSync(join(FOLDER, file), 'utf8')).not.toContain(name);
    }
  });
});
