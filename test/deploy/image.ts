/**
 * What the Dockerfile puts into the image, as a folder: its COPY lines carried out over this clone.
 * Installing needs the network, so the packages are the installed ones of the lock file without those of
 * development; every other step of the build stage runs as it stands.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { copiesOf, environmentOf, execForm, only, parseDockerfile, textsOf } from './dockerfile.ts';
import type { Stage } from './dockerfile.ts';

export const PROJECT = join(import.meta.dirname, '../..');

export interface Image {
  /** Absent: everything of the image is in the test's stand-in. */
  readonly folder: string | undefined;
  readonly environment: Readonly<Record<string, string>>;
  readonly workdir: string;
  readonly entrypoint: readonly string[];
  readonly stopSignal: NodeJS.Signals;
  /** Folders that new volumes begin as: owner and mode. */
  readonly folders: ReadonlyMap<string, { readonly owner: string; readonly mode: string }>;
}

/** By hard links where the file system is the same; a copy elsewhere. */
const copy = (from: string, to: string): void => {
  mkdirSync(dirname(to), { recursive: true });
  try {
    execFileSync('cp', ['-al', from, to], { stdio: 'pipe' });
  } catch {
    execFileSync('cp', ['-a', from, to]);
  }
};

interface LockFile {
  readonly packages: Readonly<
    Record<string, { readonly dev?: boolean; readonly devOptional?: boolean }>
  >;
}

/** As `npm ci --omit=dev` leaves it; nested packages come with those that they are in. */
const copyPackages = (to: string): void => {
  const lock = JSON.parse(readFileSync(join(PROJECT, 'package-lock.json'), 'utf8')) as LockFile;
  for (const [path, { dev, devOptional }] of Object.entries(lock.packages)) {
    const outermost = path.split('node_modules/').length === 2;
    if (!outermost || dev === true || devOptional === true) continue;
    if (existsSync(join(PROJECT, path))) copy(join(PROJECT, path), join(to, path));
  }
};

/** Hard links into this clone must not be written to: what a step makes, it makes anew. */
const MADE = ['node_modules/pkcs11js/build', 'src/store/generated'];

const buildStage = (stage: Stage, folder: string): void => {
  mkdirSync(folder, { recursive: true });
  const pending = new Set(MADE);
  const clear = (): void => {
    for (const made of pending) {
      if (!existsSync(join(folder, made))) continue;
      rmSync(join(folder, made), { recursive: true });
      pending.delete(made);
    }
  };
  for (const { name, text } of stage.instructions) {
    clear();
    if (name === 'COPY') {
      for (const { sources, target } of copiesOf({ ...stage, instructions: [{ name, text }] })) {
        for (const source of sources) {
          const to = target.endsWith('/') ? join(target, basename(source)) : target;
          copy(join(PROJECT, source), join(folder, to));
        }
      }
    } else if (name === 'RUN' && text.startsWith('npm ci --omit=dev --ignore-scripts ')) {
      copyPackages(folder);
    } else if (name === 'RUN' && !text.startsWith('apt-get update ')) {
      execFileSync('sh', ['-ec', text], { cwd: folder, stdio: 'pipe' });
    }
  }
};

/** What `install -d` of a Dockerfile makes, as new volumes begin. */
export const madeFolders = (stage: Stage): Image['folders'] => {
  const made = /install -d -m (\d+) -o (\d+) -g (\d+) ([^&]+)/u.exec(
    textsOf(stage, 'RUN').join(' '),
  );
  const [, mode = '', uid = '', gid = '', paths = ''] = made ?? [];
  return new Map(
    paths
      .trim()
      .split(/\s+/u)
      .map((path) => [path, { owner: `${uid}:${gid}`, mode }]),
  );
};

/** Carries out the Dockerfile of this clone below `folder`. */
export const buildImage = (folder: string): Image => {
  const [build, final, ...more] = parseDockerfile(
    readFileSync(join(PROJECT, 'deploy/Dockerfile'), 'utf8'),
  );
  if (build === undefined || final === undefined || more.length > 0) throw new Error('two stages');
  const workdir = only(final, 'WORKDIR');
  const root = join(folder, 'root');
  buildStage(build, join(folder, 'build', workdir));
  mkdirSync(join(root, workdir), { recursive: true });
  for (const { from, sources, target } of copiesOf(final)) {
    for (const source of sources) {
      const origin = from === undefined ? join(PROJECT, source) : join(folder, from, source);
      const at = resolve(workdir, target);
      copy(origin, join(root, target.endsWith('/') ? join(at, basename(source)) : at));
    }
  }
  return {
    folder: root,
    environment: environmentOf(final),
    workdir,
    entrypoint: execForm(final, 'ENTRYPOINT'),
    stopSignal: only(final, 'STOPSIGNAL') as NodeJS.Signals,
    folders: madeFolders(final),
  };
};

/** Every file below a folder, relative to it. */
export const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(folder, name), { throwIfNoEntry: false })?.isFile(),
  );
