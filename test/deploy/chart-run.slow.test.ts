/**
 * The chart's pods with SoftHSM, started: the rendered command lines, environments, volumes and users over
 * what the Dockerfile puts into the image, from nothing to a wrapped key over TLS, and again.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readCompose } from './compose.ts';
import { CONTAINERS_RUN, Containers } from './containers.ts';
import { Helm, example, kubeTool } from './helm.ts';
import { PROJECT, buildImage } from './image.ts';
import { makeVolumes, withPods } from './pod-services.ts';
import { podsOf } from './pods.ts';
import type { Pod } from './pods.ts';
import { makeSite, trialHeader } from './site.ts';

const helm = kubeTool('helm', '--find') ?? kubeTool('helm');

const suite = (program: string) => {
  let folder: string;
  let site: string;
  let containers: Containers;
  let service: Pod;
  let migrate: Pod;
  const at = (name: string) => join(folder, name);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-pods-'));
    site = at('site');
    makeSite(site);
    const file = (name: string) => readFileSync(join(site, name), 'utf8');
    writeFileSync(
      at('keys.json'),
      JSON.stringify({ issuerKeys: { 'trial.json': JSON.parse(file('jwks.json')) as object } }),
    );
    const values = ['-f', example('softhsm-development'), '-f', at('keys.json')];
    const manifests = new Helm(program).manifests(...values);
    const secrets = {
      'twofold-pins': { user: file('user.pin'), officer: file('so.pin') },
      'twofold-database': { server: file('server.password'), owner: file('owner.password') },
      'twofold-tls': {
        'tls.crt': file('server.pem'),
        'tls.key': file('server.key'),
        'ca.crt': file('ca.pem'),
      },
    };
    const parts = { secrets, manifests, folder };
    const pods = podsOf(manifests);
    const partOf = (part: string): Pod => {
      const found = pods.find(({ labels }) => labels['twofold/part'] === part);
      if (found === undefined) throw new Error(`no pod of ${part}`);
      return found;
    };
    [service, migrate] = [partOf('service'), partOf('migrate')];
    for (const pod of pods) makeVolumes(pod, parts);
    const compose = readCompose(join(PROJECT, 'docker-compose.yml'), { TWOFOLD_SITE: site });
    containers = new Containers(withPods(compose, pods, parts), buildImage(at('image')), folder);
    await containers.open();
    await containers.start('database');
    await containers.healthy('database');
  }, 120_000);
  afterAll(async () => {
    await containers.close();
    rmSync(folder, { recursive: true, force: true });
  }, 120_000);

  const names = (pod: Pod, of: 'initContainers' | 'containers') =>
    (pod.spec[of] ?? []).map(({ name }) => `${pod.name}.${name}`);

  /** As the kubelet runs a pod: its init containers one after the other, then the others. */
  const startPod = async (pod: Pod): Promise<string> => {
    for (const name of names(pod, 'initContainers')) {
      const { status, out } = await containers.run(name);
      expect([name, status, out]).toEqual([name, 0, out]);
    }
    const [name = ''] = names(pod, 'containers');
    await containers.start(name);
    return name;
  };

  interface Answer {
    readonly status: number;
    readonly text: string;
  }
  const call = async (path: string, body?: object): Promise<Answer> => {
    writeFileSync(at('header'), trialHeader(site, 'admin', 'user'), { mode: 0o600 });
    const flags = ['-sS', '--cacert', join(site, 'ca.pem'), '-H', `@${at('header')}`];
    const sent = body === undefined ? [] : ['--json', JSON.stringify(body)];
    const url = `https://localhost:8370${path}`;
    const { out } = await containers.inNetwork('curl', [
      ...flags,
      ...sent,
      '-w',
      '\n%{http_code}',
      url,
    ]);
    const [text = '', status = '0'] = out.split(/\n(?=\d+$)/u);
    return { status: Number(status), text };
  };
  const untilReady = async (name: string): Promise<void> => {
    const [container] = service.spec.containers;
    const path = container?.startupProbe?.httpGet?.path ?? '';
    const until = performance.now() + 60_000;
    for (;;) {
      if ((await call(path)).status === 200) return;
      const { child, output } = containers.running(name);
      if (child.exitCode !== null || performance.now() > until) throw new Error(output());
      await sleep(200);
    }
  };

  const plaintext = Buffer.from('a key of the chart').toString('base64');
  let ciphertext: unknown;

  it('come up: token, root, schema, service, by the probes of the pod', async () => {
    const steps = await containers.run(names(migrate, 'containers')[0] ?? '');
    expect([steps.status, steps.out]).toEqual([0, expect.stringMatching(/"applied":\["0001/u)]);
    const name = await startPod(service);
    await untilReady(name);
    const [container] = service.spec.containers;
    for (const one of [container?.readinessProbe, container?.livenessProbe]) {
      expect(await call(one?.httpGet?.path ?? '')).toMatchObject({ status: 200 });
    }
    const made = await call('/v1/admin/keys', { name: 'first', suite: 'MLKEM768-P256' });
    expect(made).toMatchObject({ status: 201 });
    const wrapped = await call('/v1/keys/first/wrap', { plaintext });
    ({ ciphertext } = JSON.parse(wrapped.text) as { ciphertext: unknown });
    expect(typeof ciphertext).toBe('string');
  }, 120_000);

  it('start again over the same volumes, though the kubelet had opened them to the group', async () => {
    const name = names(service, 'containers')[0] ?? '';
    expect(await containers.stop(name)).toBe(0);
    const data = containers.volume(`${service.name}-data`);
    // As `fsGroup` does to a volume that was restored, whose own folder has another group.
    execFileSync('chmod', ['-R', 'g+rwX', data]);
    await startPod(service);
    await untilReady(name);
    expect(statSync(join(data, 'data')).mode & 0o7777).toBe(0o700);
    const opened = await call('/v1/keys/first/unwrap', { ciphertext });
    expect(JSON.parse(opened.text)).toMatchObject({ plaintext, origin: 'service' });
  }, 120_000);
};

if (helm === undefined || !CONTAINERS_RUN) {
  it('is not shown here', () => {
    console.warn('Not run here: pods need helm (or Go), root, namespaces, ip and pg_isready.');
  });
} else {
  describe('the pods of examples/softhsm-development.yaml', () => suite(helm));
}
