/**
 * Pods of manifests as services of a compose file, for `Containers`: each container with its own mounts. A
 * volume of a Secret or ConfigMap is a folder of links into `..data`, of root's and the pod's group, as the
 * kubelet makes it; claims and empty folders belong to root and are open to the group.
 */
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { V1Container, V1Volume } from '@kubernetes/client-node';
import type { Compose, Service } from './compose.ts';
import type { Manifest } from './manifests.ts';
import { environmentOf, mountsOf } from './pods.ts';
import type { Pod } from './pods.ts';

export interface PodParts {
  /** Files of Secrets, by name and key. */
  readonly secrets: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly manifests: readonly Manifest[];
  /** Where volumes of `Containers` lie, and the folders that are mounted. */
  readonly folder: string;
}

const GROUP = 10001;

const projected = (at: string, files: Readonly<Record<string, string>>, mode: number): string => {
  const data = join(at, '..2026_01_01');
  mkdirSync(data, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(data, name), content, { mode });
    chownSync(join(data, name), 0, GROUP);
    symlinkSync(`..data/${name}`, join(at, name));
  }
  symlinkSync('..2026_01_01', join(at, '..data'));
  return at;
};

interface Item {
  readonly key: string;
  readonly path: string;
}

const filesOf = (volume: V1Volume, { secrets, manifests }: PodParts): Record<string, string> => {
  if (volume.configMap !== undefined) {
    const found = manifests.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === volume.configMap?.name,
    );
    return { ...found?.data };
  }
  const all = secrets[volume.secret?.secretName ?? ''] ?? {};
  const named: readonly Item[] | undefined = volume.secret?.items;
  const items = named ?? Object.keys(all).map((key): Item => ({ key, path: key }));
  return Object.fromEntries(
    items.map(({ key, path }) => {
      const content = all[key];
      if (content === undefined) throw new Error(`no ${key} in ${volume.name}`);
      return [path, content];
    }),
  );
};

const emptyVolume = (at: string): void => {
  mkdirSync(at, { recursive: true });
  chownSync(at, 0, GROUP);
  chmodSync(at, 0o2777);
};

/** Volumes of `pod` as compose names them: `/path:/target:ro` or `name:/target`. */
const volumesOf = (pod: Pod, container: V1Container, parts: PodParts): string[] =>
  mountsOf(pod, container)
    .filter(({ mountPath }) => mountPath !== '/tmp')
    .map(({ name, mountPath, volume }) => {
      const own = `${pod.name}-${name}`;
      if (volume?.secret !== undefined || volume?.configMap !== undefined) {
        return `${join(parts.folder, 'projected', own)}:${mountPath}:ro`;
      }
      return `${own}:${mountPath}`;
    });

/** Makes the volumes of a pod; once. */
export const makeVolumes = (pod: Pod, parts: PodParts): void => {
  const claims = (pod.spec.containers[0]?.volumeMounts ?? []).filter(
    ({ name }) => !(pod.spec.volumes ?? []).some((volume) => volume.name === name),
  );
  for (const { name } of claims) emptyVolume(join(parts.folder, 'volumes', `${pod.name}-${name}`));
  for (const volume of pod.spec.volumes ?? []) {
    const own = `${pod.name}-${volume.name}`;
    const mode = volume.secret?.defaultMode ?? volume.configMap?.defaultMode;
    if (mode === undefined) emptyVolume(join(parts.folder, 'volumes', own));
    else projected(join(parts.folder, 'projected', own), filesOf(volume, parts), mode);
  }
};

const serviceOf = (pod: Pod, container: V1Container, parts: PodParts, base: Service): Service => {
  const { command, args = [], securityContext } = container;
  const security = pod.spec.securityContext;
  return {
    ...base,
    user: `${security?.runAsUser ?? 0}:${security?.runAsGroup ?? 0}`,
    read_only: securityContext?.readOnlyRootFilesystem ?? false,
    command: [...(command ?? []), ...args],
    ...(command === undefined ? {} : { entrypoint: [] }),
    environment: environmentOf(container),
    secrets: [],
    configs: [],
    volumes: volumesOf(pod, container, parts),
    depends_on: {},
  };
};

/** The compose file with the pods' containers beside its own, each named by its pod and itself. */
export const withPods = (compose: Compose, pods: readonly Pod[], parts: PodParts): Compose => {
  const base = compose.services['twofold'];
  if (base === undefined) throw new Error('no service of the image');
  const added = pods.flatMap((pod) =>
    [...(pod.spec.initContainers ?? []), ...pod.spec.containers].map(
      (container): [string, Service] => [
        `${pod.name}.${container.name}`,
        serviceOf(pod, container, parts, base),
      ],
    ),
  );
  return { ...compose, services: { ...compose.services, ...Object.fromEntries(added) } };
};
