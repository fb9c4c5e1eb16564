/** The manifests of deploy/kubernetes, by the checks that the chart has to pass. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
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

const names = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.yaml'),
);

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
