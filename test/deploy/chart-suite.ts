/** What the chart promises, asked of what real Helm makes of it for several sets of values. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type {
  V1Job,
  V1NetworkPolicy,
  V1PodDisruptionBudget,
  V1StatefulSet,
} from '@kubernetes/client-node';
import { checkConfig } from '../../src/config.ts';
import type { ConfigPart } from '../../src/config.ts';
import { SETTINGS } from '../../src/config/schema.ts';
import { makeCertificate } from '../config/certificate.ts';
import { chartRefusals } from './chart-refusals.ts';
import { chartZones } from './chart-zones.ts';
import { execForm, only, parseDockerfile } from './dockerfile.ts';
import { EXAMPLES, Helm, example } from './helm.ts';
import { PROJECT } from './image.ts';
import { problemsOf } from './manifests.ts';
import type { Manifest } from './manifests.ts';
import { containerNamed, containersOf, environmentOf, mountsOf, podsOf } from './pods.ts';
import type { Pod } from './pods.ts';

/** Variables that are no setting of the service. */
const OTHERS = ['TWOFOLD_CONFIG', 'SOFTHSM2_CONF', 'ChrystokiConfigurationPath'];

const ofKind = <T>(manifests: readonly Manifest[], kind: string): T[] =>
  manifests.filter((one) => one.kind === kind) as unknown as T[];

export function chartSuite(program: string): void {
  const helm = new Helm(program);
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-chart-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  describe.each(EXAMPLES)('rendered with examples/%s.yaml', (name) => {
    let manifests: Manifest[];
    let pods: Pod[];
    beforeAll(() => {
      manifests = helm.manifests('-f', example(name));
      pods = podsOf(manifests);
    });

    it('is taken by Helm’s linter and has nothing that Kubernetes does not know', async () => {
      expect(helm.lint('-f', example(name))).toMatchObject({ ok: true });
      expect(await problemsOf(manifests)).toEqual([]);
    });

    it('keeps every pod in its bounds', () => {
      expect(pods.length).toBeGreaterThan(1);
      for (const pod of pods) {
        // The service’s own variables begin as those that service links would make.
        expect(pod.spec).toMatchObject({
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 10001,
            seccompProfile: { type: 'RuntimeDefault' },
            fsGroupChangePolicy: 'OnRootMismatch',
          },
        });
        for (const one of ['hostNetwork', 'hostPID', 'hostIPC'] as const) {
          expect(pod.spec[one] ?? false).toBe(false);
        }
        for (const container of containersOf(pod)) {
          expect([pod.name, container.name, container.securityContext]).toEqual([
            pod.name,
            container.name,
            {
              allowPrivilegeEscalation: false,
              privileged: false,
              readOnlyRootFilesystem: true,
              runAsNonRoot: true,
              capabilities: { drop: ['ALL'] },
              seccompProfile: { type: 'RuntimeDefault' },
            },
          ]);
          // Of the class Guaranteed, whose memory is not swapped.
          expect(container.resources?.limits).toEqual(container.resources?.requests);
          expect(Object.keys(container.resources?.limits ?? {}).sort()).toEqual(['cpu', 'memory']);
        }
      }
    });

    it('mounts what it has, once, and every volume somewhere', () => {
      for (const pod of pods) {
        const claims = ofKind<V1StatefulSet>(manifests, 'StatefulSet')
          .filter(({ metadata }) => metadata?.name === pod.name)
          .flatMap(({ spec }) => spec?.volumeClaimTemplates ?? [])
          .map(({ metadata }) => metadata?.name ?? '');
        const there = [...claims, ...(pod.spec.volumes ?? []).map((volume) => volume.name)];
        const used = containersOf(pod).flatMap((one) =>
          mountsOf(pod, one).map((mount) => mount.name),
        );
        expect([...new Set(used)].sort()).toEqual(there.sort());
        for (const container of containersOf(pod)) {
          const paths = mountsOf(pod, container).map(({ mountPath }) => mountPath);
          expect(new Set(paths).size).toBe(paths.length);
        }
      }
    });

    it('gives secrets as files, and each container those that it needs', () => {
      for (const pod of pods) {
        for (const container of containersOf(pod)) {
          for (const [variable, value] of Object.entries(environmentOf(container))) {
            expect(value).not.toMatch(/:[^/@]+@/u);
            if (/PASSWORD|PIN|SECRET|TOKEN(?!_LABEL)|_KEY/u.test(variable)) {
              expect(variable).toMatch(/_FILE$/u);
            }
          }
          const words = [...(container.command ?? []), ...(container.args ?? [])].join(' ');
          for (const { mountPath, volume, readOnly } of mountsOf(pod, container)) {
            if (volume?.secret === undefined) continue;
            expect([mountPath, readOnly, volume.secret.defaultMode]).toEqual([
              mountPath,
              true,
              0o440,
            ]);
            const named = [words, ...Object.values(environmentOf(container))].join(' ');
            const vendor = volume.name.startsWith('hsm-file');
            const certificates = volume.name === 'client-ca';
            expect(vendor || certificates || named.includes(`${mountPath}/`)).toBe(true);
          }
        }
      }
      const ownerIn = pods.filter((pod) => JSON.stringify(pod.spec).includes('OWNER_PASSWORD'));
      expect(ownerIn.map(({ labels }) => labels['twofold/part'])).toEqual(['migrate']);
    });

    it('sets variables and runs commands that the service and its image know', () => {
      const known = new Set([...SETTINGS.map(({ env }) => env), ...OTHERS]);
      const [, final] = parseDockerfile(readFileSync(join(PROJECT, 'deploy/Dockerfile'), 'utf8'));
      if (final === undefined) throw new Error('two stages');
      for (const pod of pods) {
        expect(pod.spec.securityContext?.runAsUser).toBe(Number(only(final, 'USER').split(':')[0]));
        for (const container of containersOf(pod)) {
          for (const variable of Object.keys(environmentOf(container))) {
            expect(known).toContain(variable);
          }
          // With `command` the image’s entry point, which is the launcher, would not run.
          if (container.args !== undefined) expect(container.command).toBeUndefined();
        }
        const [own] = pod.spec.containers;
        expect(own?.args).toEqual([pod.labels['twofold/part'] === 'migrate' ? 'migrate' : 'serve']);
      }
      expect(execForm(final, 'ENTRYPOINT')).toEqual(['sh', '/opt/twofold/scripts/launch']);
      expect(only(final, 'EXPOSE')).toBe('8370 8371');
    });

    it('has a configuration that the service takes as it stands', () => {
      const [config] = manifests.filter(({ kind }) => kind === 'ConfigMap');
      const { certificate, key } = makeCertificate();
      const put = (file: string, content: string, mode = 0o400): string => {
        const path = join(folder, `${name}-${file}`);
        rmSync(path, { force: true });
        writeFileSync(path, content, { mode });
        return path;
      };
      const files = new Map([
        ['/etc/twofold/tls/tls.crt', put('tls.crt', certificate)],
        ['/etc/twofold/tls/tls.key', put('tls.key', key, 0o440)],
        ['/etc/twofold/client-ca/ca.pem', put('client-ca.pem', certificate)],
        ['/etc/twofold/database-ca/ca.pem', put('database-ca.pem', certificate)],
        ['/etc/twofold/database/password', put('password', 'x', 0o440)],
        ['/run/twofold/user.pin', put('user.pin', '1234')],
        ['/run/twofold-officer/so.pin', put('so.pin', '1234')],
        ...['/usr/lib/softhsm/libsofthsm2.so', '/opt/pkcs11/libpkcs11.so'].map(
          (path): [string, string] => [path, put('module.so', 'x')],
        ),
        ['/opt/pkcs11/lib/libCryptoki2_64.so', put('module.so', 'x')],
      ]);
      for (const [file, text] of Object.entries(config?.data ?? {})) {
        if (file === 'twofold.json') continue;
        files.set(`/etc/twofold/config/${file}`, put(file, text, 0o444));
      }
      const mapped = (text: string) =>
        [...files].reduce((so, [from, to]) => so.replaceAll(from, to), text);
      files.set(
        '/etc/twofold/config/twofold.json',
        put('twofold.json', mapped(config?.data?.['twofold.json'] ?? '')),
      );
      for (const pod of pods) {
        for (const container of containersOf(pod)) {
          if (container.args === undefined) continue;
          const environment = Object.fromEntries(
            Object.entries(environmentOf(container)).map(([key, value]) => [key, mapped(value)]),
          );
          const uses: Readonly<Record<string, ConfigPart[] | undefined>> = {
            migrate: ['owner'],
            hsm: ['hsm'],
          };
          const part = uses[container.args[0] ?? ''];
          const check = checkConfig({
            flags: new Map(),
            environment,
            ...(part === undefined ? {} : { uses: part }),
          });
          expect([container.name, check]).toMatchObject([container.name, { ok: true }]);
        }
      }
    });

    it('lets a pod start, serve and end as it should', () => {
      for (const set of ofKind<V1StatefulSet>(manifests, 'StatefulSet')) {
        expect(set.spec?.persistentVolumeClaimRetentionPolicy).toEqual({
          whenDeleted: 'Retain',
          whenScaled: 'Retain',
        });
        const [pod] = podsOf([set as unknown as Manifest]);
        if (pod === undefined) throw new Error('a pod');
        const service = containerNamed(pod, 'twofold');
        const [start, ready, live] = [
          service.startupProbe,
          service.readinessProbe,
          service.livenessProbe,
        ].map((probe) => probe?.httpGet);
        expect([start?.path, ready?.path, live?.path]).toEqual(['/readyz', '/readyz', '/healthz']);
        for (const probe of [start, ready, live]) {
          expect([probe?.scheme, probe?.port]).toEqual(['HTTPS', 'https']);
        }
        const patience =
          (service.startupProbe?.periodSeconds ?? 0) *
          (service.startupProbe?.failureThreshold ?? 0);
        expect(patience).toBeGreaterThanOrEqual(600);
        const drain = Number(environmentOf(service)['TWOFOLD_STOP_DRAIN_MS']) / 1_000;
        const before = service.lifecycle?.preStop?.sleep?.seconds ?? 0;
        expect(before).toBeGreaterThan(0);
        expect(pod.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(before + drain + 15);
        const data = mountsOf(pod, service).find(
          ({ mountPath }) => mountPath === '/var/lib/twofold',
        );
        expect(set.spec?.volumeClaimTemplates?.map(({ metadata }) => metadata?.name)).toContain(
          data?.name,
        );
        expect(pod.spec.topologySpreadConstraints).toHaveLength(1);
      }
    });

    it('selects the pods that it means', () => {
      const [budget] = ofKind<V1PodDisruptionBudget>(manifests, 'PodDisruptionBudget');
      const matches = (labels: object | undefined, selector: object | undefined) =>
        Object.entries(selector ?? { '': '' }).every(
          ([key, value]) => (labels as Record<string, unknown> | undefined)?.[key] === value,
        );
      for (const pod of pods) {
        const service = pod.labels['twofold/part'] === 'service';
        expect(matches(pod.labels, budget?.spec?.selector?.matchLabels)).toBe(service);
      }
      expect(budget?.spec?.maxUnavailable).toBe(1);
      for (const { metadata, spec } of manifests.filter(({ kind }) => kind === 'Service')) {
        const { selector } = spec as { selector?: object };
        const found = pods.filter((pod) => matches(pod.labels, selector));
        expect([metadata.name, found.length]).not.toEqual([metadata.name, 0]);
        expect(found.every(({ labels }) => labels['twofold/part'] === 'service')).toBe(true);
      }
      const [policy] = ofKind<V1NetworkPolicy>(manifests, 'NetworkPolicy');
      expect(policy?.spec?.policyTypes).toEqual(['Ingress', 'Egress']);
      for (const pod of pods) {
        expect(matches(pod.labels, policy?.spec?.podSelector?.matchLabels)).toBe(true);
      }
      for (const rule of [...(policy?.spec?.ingress ?? []), ...(policy?.spec?.egress ?? [])]) {
        // A rule without peers or ports would let everything through.
        expect(rule.ports?.length).toBeGreaterThan(0);
        expect(
          ('_from' in rule ? rule._from : 'to' in rule ? rule.to : null) ?? 'from',
        ).not.toEqual([]);
      }
    });
  });

  describe('the zones of examples/network-hsm.yaml', () => {
    it('are StatefulSets with their own nodes, volumes, token, PIN and module', () => {
      const sets = ofKind<V1StatefulSet>(
        helm.manifests('-f', example('network-hsm')),
        'StatefulSet',
      );
      const facts = sets.map((set) => {
        const [pod] = podsOf([set as unknown as Manifest]);
        if (pod === undefined) throw new Error('a pod');
        const service = containerNamed(pod, 'twofold');
        const environment = environmentOf(service);
        return [
          set.metadata?.name,
          set.spec?.replicas,
          pod.spec.nodeSelector?.['topology.kubernetes.io/zone'],
          set.spec?.volumeClaimTemplates?.[0]?.spec?.storageClassName,
          environment['TWOFOLD_ZONE_NAME'],
          environment['TWOFOLD_HSM_TOKEN_LABEL'] ?? environment['TWOFOLD_HSM_SLOT'],
          pod.spec.volumes?.find(({ name }) => name === 'pin')?.secret?.secretName,
        ];
      });
      expect(facts).toEqual([
        ['demo-twofold-zone-a', 2, 'eu-1a', 'fast-1a', 'zone-a', 'twofold-a', 'hsm-a'],
        ['demo-twofold-zone-b', 2, 'eu-1b', 'fast-1b', 'zone-b', 'twofold-b', 'hsm-b'],
        ['demo-twofold-zone-c', 2, 'eu-1c', undefined, 'zone-c', '3', 'hsm-c'],
      ]);
      for (const pod of podsOf(sets as unknown as Manifest[])) {
        const writes = containersOf(pod).filter((one) =>
          mountsOf(pod, one).some(({ name, readOnly }) => name === 'module' && !readOnly),
        );
        expect(writes.map(({ name }) => name)).toEqual(['module']);
        expect(containerNamed(pod, 'twofold').env).toContainEqual({
          name: 'ChrystokiConfigurationPath',
          value: '/etc/hsm/configuration',
        });
      }
    });
  });

  describe('CloudNativePG', () => {
    it('makes a database that acknowledges nothing that one instance alone has', () => {
      const manifests = helm.manifests('-f', example('cloudnativepg'));
      const [cluster] = manifests.filter(({ kind }) => kind === 'Cluster');
      expect(cluster?.spec).toMatchObject({
        instances: 3,
        enableSuperuserAccess: false,
        postgresql: {
          synchronous: {
            method: 'any',
            number: 1,
            dataDurability: 'required',
            failoverQuorum: true,
          },
          pg_hba: ['hostnossl all all all reject'],
        },
        bootstrap: { initdb: { owner: 'twofold_owner' } },
        managed: {
          roles: [{ name: 'twofold_server', superuser: false, inRoles: ['twofold_app'] }],
        },
      });
      const [job] = ofKind<V1Job>(manifests, 'Job');
      const [pod] = podsOf([job as unknown as Manifest]);
      const owner = environmentOf(containerNamed(pod as Pod, 'migrate'));
      expect(owner['TWOFOLD_DATABASE_OWNER_URL']).toBe(
        `postgresql://twofold_owner@${cluster?.metadata.name ?? ''}-rw:5432/twofold`,
      );
    });
  });

  chartRefusals(helm);
  chartZones(helm);

  it('without values says what is missing', () => {
    expect(helm.template()).toMatchObject({
      ok: false,
      err: expect.stringMatching(/at least one zone/u) as unknown,
    });
  });
}
