/** What a release with several zones promises: each knows the others, and they are changed one after the other. */
import { describe, expect, it } from '@jest/globals';
import type { V1StatefulSet } from '@kubernetes/client-node';
import { example } from './helm.ts';
import type { Helm } from './helm.ts';
import type { Manifest } from './manifests.ts';
import { containerNamed, environmentOf, podsOf } from './pods.ts';

interface Zone {
  readonly set: V1StatefulSet;
  readonly environment: Readonly<Record<string, string>>;
}

export function chartZones(helm: Helm): void {
  const zonesOf = (...argv: string[]): Zone[] =>
    helm
      .manifests(...argv)
      .filter(({ kind }) => kind === 'StatefulSet')
      .map((manifest: Manifest) => {
        const [pod] = podsOf([manifest]);
        if (pod === undefined) throw new Error('a pod');
        const environment = environmentOf(containerNamed(pod, 'twofold'));
        return { set: manifest as unknown as V1StatefulSet, environment };
      });
  const network = ['-f', example('network-hsm')];
  const alone = ['-f', example('cloudnativepg')];

  describe('several zones', () => {
    it('are told of each other, so that what is acknowledged outlives one', () => {
      expect(
        zonesOf(...network).map(({ environment }) => environment['TWOFOLD_ZONE_OTHERS']),
      ).toEqual(['["zone-b","zone-c"]', '["zone-a","zone-c"]', '["zone-a","zone-b"]']);
      const one = zonesOf(...alone).map(({ environment }) => environment['TWOFOLD_ZONE_OTHERS']);
      expect(one).toEqual(['[]']);
    });

    it('are told of those of other releases too', () => {
      const elsewhere = ['--set', 'otherZones={zone-x,zone-y}'];
      const one = zonesOf(...alone, ...elsewhere);
      expect(one.map(({ environment }) => environment['TWOFOLD_ZONE_OTHERS'])).toEqual([
        '["zone-x","zone-y"]',
      ]);
      const [first] = zonesOf(...network, ...elsewhere);
      expect(first?.environment['TWOFOLD_ZONE_OTHERS']).toBe(
        '["zone-b","zone-c","zone-x","zone-y"]',
      );
    });

    it('have the grace that is asked for, and none by default', () => {
      const grace = (...argv: string[]) =>
        zonesOf(...network, ...argv).map(({ environment }) => environment['TWOFOLD_ZONE_GRACE_MS']);
      expect(grace()).toEqual(['0', '0', '0']);
      expect(grace('--set', 'zoneGraceMs=120000')).toEqual(['120000', '120000', '120000']);
    });

    it('read entries of the log at the standbys, which the policy lets them reach', () => {
      const standbys = [
        'database.readOnly.host=standbys.example.com',
        'database.readOnly.port=5001',
      ];
      const argv = [...network, ...standbys.flatMap((value) => ['--set', value])];
      for (const { environment } of zonesOf(...argv)) {
        expect(environment['TWOFOLD_DATABASE_READ_ONLY_URL']).toBe(
          'postgresql://twofold_server@standbys.example.com:5001/twofold',
        );
      }
      const [policy] = helm.manifests(...argv).filter(({ kind }) => kind === 'NetworkPolicy');
      const { egress } = policy?.spec as { egress: { ports: { port: number }[] }[] };
      const rule = egress.find(({ ports }) => ports.some(({ port }) => port === 5432));
      expect(rule?.ports.map(({ port }) => port)).toEqual([5432, 5001]);
      for (const { environment } of zonesOf(...network)) {
        expect(environment).not.toHaveProperty('TWOFOLD_DATABASE_READ_ONLY_URL');
      }
      // As `--reuse-values` leaves it, of a release that did not know it.
      for (const values of [network, alone]) {
        expect(zonesOf(...values, '--set', 'database.readOnly=null')).not.toEqual([]);
      }
      for (const { environment } of zonesOf(...alone)) {
        const [, host = ''] = /@(.*)-rw:/u.exec(environment['DATABASE_URL'] ?? '') ?? [];
        expect(environment['TWOFOLD_DATABASE_READ_ONLY_URL']).toBe(
          `postgresql://twofold_server@${host}-ro:5432/twofold`,
        );
      }
    });

    it('ask the managers of the database, which the policy lets them reach', () => {
      const argv = [
        ...network,
        '--set',
        'database.managers={https://p-1:8008,https://p-2:8009,https://p-3}',
      ];
      for (const { environment } of zonesOf(...argv)) {
        expect(environment['TWOFOLD_DATABASE_MANAGERS']).toBe(
          '["https://p-1:8008","https://p-2:8009","https://p-3"]',
        );
      }
      const [policy] = helm.manifests(...argv).filter(({ kind }) => kind === 'NetworkPolicy');
      const { egress } = policy?.spec as { egress: { ports: { port: number }[]; to: unknown }[] };
      const rule = egress.find(({ ports }) => ports.some(({ port }) => port === 5432));
      expect(rule?.ports.map(({ port }) => port)).toEqual([5432, 8008, 8009, 443]);
      for (const { environment } of zonesOf(...network)) {
        expect(environment).not.toHaveProperty('TWOFOLD_DATABASE_MANAGERS');
      }
    });
  });
  describe('a zone that is held', () => {
    const rolled = (...argv: string[]) =>
      zonesOf(...network, ...argv).map(({ set }) => {
        const strategy = set.spec?.updateStrategy;
        const changed = (set.spec?.replicas ?? 0) - (strategy?.rollingUpdate?.partition ?? 0);
        return [strategy?.type, Math.max(changed, 0)];
      });

    it('changes no pod, while the others change all', () => {
      expect(rolled()).toEqual(Array(3).fill(['RollingUpdate', 2]));
      expect(rolled('--set', 'zones[1].hold=true,zones[2].hold=true')).toEqual([
        ['RollingUpdate', 2],
        ['RollingUpdate', 0],
        ['RollingUpdate', 0],
      ]);
    });

    it('has a template that the holding itself does not change', () => {
      const templates = (...argv: string[]) =>
        zonesOf(...network, ...argv).map(({ set }) => set.spec?.template);
      expect(templates('--set', 'zones[0].hold=true')).toEqual(templates());
    });

    it('and zones that would change at once are named after an upgrade', () => {
      const notes = (...argv: string[]) => helm.notes(...network, ...argv);
      expect(notes()).toMatch(/zone-a, zone-b, zone-c change at once/u);
      const held = notes('--set', 'zones[1].hold=true,zones[2].hold=true');
      expect(held).not.toMatch(/at once/u);
      expect(held).toMatch(/zone-b, zone-c/u);
    });
  });
}
