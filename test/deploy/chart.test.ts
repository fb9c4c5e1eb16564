/** The Helm chart: its values, their documentation, and what real Helm makes of it where there is one. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { chartReference, chartSchema, openObjects } from '../../scripts/chart-reference.ts';
import { configSchema } from '../../src/config/schema.ts';
import { chartSuite } from './chart-suite.ts';
import { CHART, kubeTool } from './helm.ts';
import { problemsOf, readManifests } from './manifests.ts';

describe('the values', () => {
  it('are documented each, on the generated page', () => {
    expect(readFileSync(join(CHART, 'values.md'), 'utf8')).toBe(chartReference());
    const rows = chartReference()
      .split('\n')
      .filter((line) => line.startsWith('| '));
    expect(rows.length).toBeGreaterThan(80);
    for (const row of rows) expect(row).toMatch(/\S \|$/u);
  });

  it('are closed: what has no meaning is refused everywhere', () => {
    expect(openObjects(chartSchema)).toEqual([]);
  });

  it('take each section of the configuration that the chart does not make itself', () => {
    const made = [
      'mode',
      'dataDir',
      'workers',
      'http',
      'admin',
      'metrics',
      'database',
      'hsm',
      'zone',
      // A provider's socket belongs on control-plane nodes, where this chart's pods are not.
      'kms',
      'stop',
    ];
    const taken = Object.keys(chartSchema.properties?.['configuration']?.properties ?? {});
    expect([...taken, ...made].sort()).toEqual(Object.keys(configSchema.shape).sort());
  });
});

describe('the check of manifests', () => {
  const found = (kind: string, apiVersion: string, spec: object) =>
    problemsOf(readManifests(JSON.stringify({ apiVersion, kind, metadata: { name: 'x' }, spec })));
  const POD = { selector: { matchLabels: {} }, serviceName: 'x' };

  it.each([
    ['PodDisruptionBudget', 'policy/v1', { maxUnavailabel: 1 }, /spec\.maxUnavailabel/u],
    ['PodDisruptionBudget', 'policy/v1', { maxUnavailable: {} }, /maxUnavailable must be/u],
    [
      'StatefulSet',
      'apps/v1',
      {
        ...POD,
        template: {
          spec: { containers: [{ name: 'x', securityContext: { readOnlyRootFileSystem: true } }] },
        },
      },
      /containers\[0\]\.securityContext\.readOnlyRootFileSystem/u,
    ],
    [
      'Cluster',
      'postgresql.cnpg.io/v1',
      {
        instances: 3,
        storage: { size: '1Gi' },
        postgresql: { synchronous: { method: 'any', number: 1, dataDurabilty: 'required' } },
      },
      /"dataDurabilty"' does not exist/u,
    ],
    [
      'Cluster',
      'postgresql.cnpg.io/v1',
      { instances: 3, postgresql: { synchronous: { method: 'all', number: 1 } } },
      /method/u,
    ],
    [
      'ServiceMonitor',
      'monitoring.coreos.com/v1',
      { selector: {}, endpoints: [{ port: 'metrics', tlsconfig: {} }] },
      /tlsconfig/u,
    ],
  ])('finds what is wrong with a %s of %s', async (kind, apiVersion, spec, why) => {
    expect((await found(kind, apiVersion, spec)).join('\n')).toMatch(why);
  });

  it('lets the right ones pass', async () => {
    expect(await found('PodDisruptionBudget', 'policy/v1', { maxUnavailable: 1 })).toEqual([]);
  });
});

const helm = kubeTool('helm', '--find');
if (helm === undefined) {
  it('is not rendered here', () => {
    console.warn('Not run here: helm is not there (scripts/kube-tools helm builds it, with Go).');
  });
} else {
  chartSuite(helm);
}
