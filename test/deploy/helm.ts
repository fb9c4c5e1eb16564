/** Real Helm over the chart: found on the PATH or built before (`scripts/kube-tools`). */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { PROJECT } from './image.ts';
import { readManifests } from './manifests.ts';
import type { Manifest } from './manifests.ts';

export const CHART = join(PROJECT, 'deploy/helm/twofold');
export const EXAMPLES = ['network-hsm', 'cloudnativepg', 'softhsm-development'] as const;
export const example = (name: string): string => join(CHART, 'examples', `${name}.yaml`);

/** A program of Kubernetes' that is here already; undefined when it is not. */
export const kubeTool = (name: string, ...flags: string[]): string | undefined => {
  const found = spawnSync('sh', [join(PROJECT, 'scripts/kube-tools'), ...flags, name], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return found.status === 0 ? found.stdout.trim() : undefined;
};

export interface Said {
  readonly ok: boolean;
  readonly out: string;
  readonly err: string;
}

export class Helm {
  readonly #program: string;

  constructor(program: string) {
    this.#program = program;
  }

  lint(...argv: string[]): Said {
    return this.#run('lint', '--strict', CHART, ...argv);
  }

  /** As an API server of the tested release would get it. */
  template(...argv: string[]): Said {
    return this.#run('template', 'demo', CHART, '-n', 'kms', '--kube-version', '1.37.2', ...argv);
  }

  /** @throws where Helm does not render */
  manifests(...argv: string[]): Manifest[] {
    const { ok, out, err } = this.template(...argv);
    if (!ok) throw new Error(err);
    return readManifests(out);
  }

  #run(...argv: string[]): Said {
    const { status, stdout, stderr } = spawnSync(this.#program, argv, {
      encoding: 'utf8',
      // No repositories, plugins or clusters of whoever runs the tests.
      env: { PATH: process.env['PATH'], HOME: '/nonexistent', KUBECONFIG: '/dev/null' },
    });
    return { ok: status === 0, out: stdout, err: stderr };
  }
}
