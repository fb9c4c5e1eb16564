/** Real Helm over the chart: found on the PATH or built before (`scripts/kube-tools`). */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
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
    return this.#template(CHART, ...argv);
  }

  /** @throws where Helm does not render */
  manifests(...argv: string[]): Manifest[] {
    const { ok, out, err } = this.template(...argv);
    if (!ok) throw new Error(err);
    return readManifests(out);
  }

  /**
   * What is said after an installation. Helm says it only where a cluster is, so that a copy of the chart has it
   * in an object.
   *
   * @throws where Helm does not render
   */
  notes(...argv: string[]): string {
    const copy = mkdtempSync(join(tmpdir(), 'twofold-notes-'));
    try {
      cpSync(CHART, copy, { recursive: true });
      const said = '{{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}';
      const object = `{ apiVersion: v1, kind: Notes, metadata: { name: x }, spec: { said: ${said} } }\n`;
      writeFileSync(join(copy, 'templates/said.yaml'), object);
      const { ok, out, err } = this.#template(copy, ...argv);
      if (!ok) throw new Error(err);
      const [notes] = readManifests(out).filter(({ kind }) => kind === 'Notes');
      return (notes?.spec as { said: string }).said;
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  }

  #template(chart: string, ...argv: string[]): Said {
    return this.#run('template', 'demo', chart, '-n', 'kms', '--kube-version', '1.37.2', ...argv);
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
